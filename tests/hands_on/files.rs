//! `chassis cp`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use chassis_testkit::Image;

use crate::Ground;

fn mode(path: &std::path::Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_directory_goes_there_and_back() {
    let ground = Ground::new("copy");
    let home = ground.chassis.home().to_owned();
    let (id, tree) = (ground.id(), home.join("tree"));
    fs::create_dir_all(tree.join("deep/er")).unwrap();
    fs::write(tree.join("run.sh"), "#!/bin/sh\necho ran\n").unwrap();
    fs::set_permissions(tree.join("run.sh"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::write(tree.join("deep/er").join("n".repeat(180)), "long").unwrap();
    symlink("run.sh", tree.join("link")).unwrap();
    fs::hard_link(tree.join("run.sh"), tree.join("same.sh")).unwrap();
    let random = fs::File::open("/dev/urandom").unwrap();
    let mut large = fs::File::create(tree.join("large")).unwrap();
    std::io::copy(&mut std::io::Read::take(random, 64 << 20), &mut large).unwrap();

    // To a name that is not there, and into a directory that is.
    ground.chassis.ok(&["cp", "tree", &format!("{id}:/data/new")]);
    ground.chassis.ok(&["cp", "tree", &format!("{id}:/data")]);
    let sums = ground.exec(&["-w", "/data"], &["sha256sum", "new/large", "tree/large"], b"").exits(0).stdout;
    let own = Command::new("sha256sum").arg(tree.join("large")).output().unwrap().stdout;
    let own = String::from_utf8_lossy(&own)[..64].to_owned();
    assert_eq!(sums.matches(&own).count(), 2, "{sums}");
    let seen = ground.exec(
        &["-w", "/data/new"],
        &["sh", "-c", "./run.sh; stat -c '%u %a' run.sh; readlink link"],
        b"",
    );
    assert_eq!(seen.exits(0).stdout, "ran\n64646 750\nrun.sh\n");

    ground.chassis.ok(&["cp", &format!("{id}:/data/new"), "back"]);
    ground.chassis.ok(&["cp", &format!("{id}:/data/new/."), "back"]);
    let back = home.join("back");
    let differs = Command::new("diff").arg("-r").arg(&tree).arg(&back).output().unwrap();
    assert!(differs.status.success(), "{}", String::from_utf8_lossy(&differs.stdout));
    assert_eq!(mode(&back.join("run.sh")), 0o750);
    assert_eq!(fs::read_link(back.join("link")).unwrap().to_str(), Some("run.sh"));

    // One file: into a directory, under another name, over one that is there, through memory.
    fs::write(home.join("one"), "1").unwrap();
    ground.chassis.ok(&["cp", "one", &format!("{id}:/tmpfs/")]);
    ground.chassis.ok(&["cp", &format!("{id}:/tmpfs/one"), "two"]);
    ground.chassis.ok(&["cp", &format!("{}/a:/tmpfs/one", ground.fleet), "back"]);
    assert_eq!(fs::read_to_string(home.join("two")).unwrap(), "1");
    assert_eq!(fs::read_to_string(back.join("one")).unwrap(), "1");

    // As tar archives.
    let archive = fs::File::create(home.join("out.tar")).unwrap();
    let status =
        ground.chassis.command(&["cp", &format!("{id}:/data/new"), "-"]).stdout(archive).status().unwrap();
    assert!(status.success());
    let listed = Command::new("tar").args(["-tvf", "out.tar"]).current_dir(&home).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("new/deep/er/nnn") && listed.contains("link -> run.sh"), "{listed}");
    let made = Command::new("tar").args(["-c", "deep", "run.sh"]).current_dir(&tree).output().unwrap().stdout;
    ground.run(&["cp", "-", &format!("{id}:/tmpfs")], &made).exits(0);
    ground.exec(&[], &["cat", &format!("/tmpfs/deep/er/{}", "n".repeat(180))], b"").exits(0).shows(&["long"]);
}

#[test]
fn what_cannot_be_copied_is_told() {
    let ground = Ground::new("nocopy");
    let id = ground.id();
    let run = |args: &[&str]| ground.chassis.run(args);
    ground.chassis.write("file", "x");
    run(&["cp", "file", &format!("{id}:/etc/file")]).exits(1).says(&["Read-only file system", "/tmpfs"]);
    run(&["cp", "file", &format!("{id}:/data/no/such/place")]).exits(1).says(&["/data/no/such/place"]);
    run(&["cp", "file", &format!("{id}:/data/no/")]).exits(1).says(&["no such directory"]);
    run(&["cp", &format!("{id}:/nothing"), "."]).exits(1).says(&["cannot read /nothing"]);
    run(&["cp", "nothing", &format!("{id}:/data")]).exits(1).says(&["cannot read nothing"]);
    run(&["cp", "file", "other"]).exits(2).says(&["one end must be in an instance"]);
    run(&["cp", &format!("{id}:/data"), "file"]).exits(1).says(&["is a file"]);
    run(&["cp", "a-9:/data", "."]).exits(3);
    ground.chassis.ok(&["stop", &id]);
    let place = ground.chassis.data_dir().join(&ground.fleet).join("a-1/data");
    run(&["cp", "file", &format!("{id}:/data")])
        .exits(1)
        .says(&["a-1 does not run", &format!("/data is {}", place.display())]);
}

/// What an archive itself may try is tried in the tests of `chassis_init::archive`; this is what an agent can prepare.
#[test]
fn a_hostile_archive_stays_where_it_was_put() {
    let ground = Ground::new("hostile");
    let home = ground.chassis.home().to_owned();
    // The agent's side unpacks with the same care.
    fs::write(home.join("evil"), "evil").unwrap();
    fs::create_dir(home.join("in")).unwrap();
    let hostile =
        Command::new("tar").args(["-cP", "../evil"]).current_dir(home.join("in")).output().unwrap().stdout;
    ground
        .run(&["cp", "-", &format!("{}:/tmpfs", ground.id())], &hostile)
        .exits(1)
        .says(&["was not asked for"]);

    // Links that lead out of the tree are copied as links, and never followed.
    let script = "mkdir /data/t && cd /data/t && ln -s /etc out && echo x > file && chmod 6755 file";
    ground.exec(&[], &["sh", "-c", script], b"").exits(0);
    ground.chassis.ok(&["cp", &format!("{}:/data/t", ground.id()), "t"]);
    assert_eq!(fs::read_link(home.join("t/out")).unwrap().to_str(), Some("/etc"));
    assert_eq!(mode(&home.join("t/file")), 0o755, "no set-user-ID bit comes out");
    // The same names again, where the agent has swapped a directory for a link and the other way round.
    let script = "cd /data/t && rm out && mkdir out && echo evil > out/evil";
    ground.exec(&[], &["sh", "-c", script], b"").exits(0);
    fs::create_dir(home.join("safe")).unwrap();
    fs::remove_file(home.join("t/out")).unwrap();
    symlink(home.join("safe"), home.join("t/out")).unwrap();
    ground.chassis.run(&["cp", &format!("{}:/data/t/.", ground.id()), "t"]).exits(1).says(&["out"]);
    assert_eq!(fs::read_dir(home.join("safe")).unwrap().count(), 0, "nothing was written through the link");
}

#[test]
fn an_image_without_anything_in_it_is_copied_from() {
    let image = Image::scratch().program("busybox").build();
    let ground = Ground::with("bare", &image, "[/busybox, sleep, '99999']", "");
    ground.chassis.ok(&["cp", &format!("{}:/busybox", ground.id()), "."]);
    let copied = fs::read(ground.chassis.home().join("busybox")).unwrap();
    assert!(copied == fs::read("/bin/busybox").unwrap());
}
