//! What an agent may try, it tries here, as an agent of somebody hostile would.

use chassis_testkit::{Image, SOON, eventually};

use crate::Ground;

/// Each line prints `<name> failed` where the sandbox holds.
const ATTEMPTS: &str = r#"
attempt() { name=$1; shift; if "$@" >/tmp/out 2>&1; then echo "$name succeeded: $(cat /tmp/out)"; else echo "$name failed"; fi; }
attempt write-root touch /x
attempt write-bin cp /bin/busybox /bin/other
attempt write-init sh -c 'echo x > /.chassis/chassis-init'
attempt remount mount -o remount,rw /
attempt mount mount -t tmpfs none /tmp
attempt unmount umount /tmp
attempt chroot chroot / /bin/true
attempt namespace unshare -U true
attempt net-namespace unshare -n true
attempt hostname hostname other
attempt clock sh -c 'date -s 2000-01-01; test $(date +%Y) = 2000'
attempt device mknod /tmp/sda b 8 0
attempt raw-disk sh -c 'cat /dev/sda || cat /dev/vda || cat /dev/mem'
attempt sysctl sh -c 'echo 1 > /proc/sys/kernel/sysrq'
attempt kernel-memory sh -c 'test -n "$(head -c 16 /proc/kcore)"'
attempt keys sh -c 'test -n "$(cat /proc/keys)"'
attempt kernel-log dmesg
attempt init-environment cat /proc/1/environ
attempt init-memory cat /proc/1/mem
attempt init-files ls /proc/1/fd
attempt init-root ls /proc/1/root/
attempt chown chown 0:0 /tmp
attempt setuid-program /bin/busybox-suid cat /secret
attempt kill-init sh -c 'kill -9 1; sleep 1; ! kill -0 1'
attempt nice nice -n -5 true
attempt more-files sh -c 'ulimit -Hn 99999999'
attempt core-dumps sh -c 'ulimit -Hc unlimited'
"#;

#[test]
fn an_agent_cannot_leave_its_sandbox() {
    let ground = Ground::new();
    let chassis = &ground.chassis;
    chassis.ok(&["create", "fleet", &ground.fleet]);
    chassis.write("key.txt", "hush-hush");
    chassis.ok(&["secret", "create", &format!("{}/key", ground.fleet), "--from-file", "key.txt"]);
    // A program that belongs to root and has the set-user-id bit, and a file that only root can read.
    let image = Image::busybox()
        .file("attempts", ATTEMPTS)
        .setuid_program("bin/busybox-suid")
        .private_file("secret", "only root reads this\n")
        .build();
    let script = "sh /attempts; echo uid $(id -u) groups $(id -G); ls /proc | grep -c \"^[0-9]\"; \
                  grep -E \"^(CapEff|CapBnd|NoNewPrivs|Seccomp):\" /proc/self/status; ulimit -Hc; \
                  df -k /dev/shm | tail -n 1; echo all done; exec sleep 99999";
    let yaml = format!(
        "name: hostile\nfleet: {0}\nimage: {image}\nstop: {{grace: 1s}}\ncommand: [/bin/sh, -c]\nargs: ['{script}']\n\
         env: [{{name: KEY, valueFrom: secret://{0}/key}}]\n",
        ground.fleet
    );
    chassis.deploy(&yaml).exits(0);
    let printed = ground.printed("hostile", "all done");
    for name in ATTEMPTS.lines().filter_map(|line| line.strip_prefix("attempt ")?.split(' ').next()) {
        assert!(printed.contains(&format!("{name} failed")), "{name}: {printed}");
    }
    assert!(!printed.contains("succeeded") && !printed.contains("only root reads"), "{printed}");
    for state in [
        "uid 64646 groups 64646",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "\n0\nshm",
        " 65536 ",
    ] {
        assert!(printed.contains(state), "`{state}` is not in: {printed}");
    }
    // It sees a handful of processes, all its own.
    let own = printed.lines().find_map(|line| line.parse::<u32>().ok()).expect("a count");
    assert!((2..12).contains(&own), "{own} processes: {printed}");
    let container = format!("chassis-{}-hostile-1", ground.fleet);
    assert!(!chassis.docker().inspect(&container).expect("it is there").to_string().contains("hush-hush"));
}

#[test]
fn an_agent_that_is_not_root_may_open_a_low_port_of_its_own() {
    let ground = Ground::new();
    ground.chassis.ok(&["create", "fleet", &ground.fleet]);
    let script = "echo hello > /tmpfs/index.html; httpd -p 80 -h /tmpfs && wget -q -O - http://127.0.0.1/; exec sleep 99999";
    ground.deploy("web", script, "").exits(0);
    eventually(SOON, || {
        let printed = ground.printed("web", "");
        if printed.contains("hello") { Ok(()) } else { Err(printed) }
    });
}
