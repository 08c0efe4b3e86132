//! Images made on the spot: an image is a tar of its files.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::http::encode;
use crate::{Docker, Turn};

const BUSYBOX: &str = "/bin/busybox";

/// What an image is made of. Its name tells its content, so that processes share one, and it is left where it is.
#[derive(Debug, Clone, Default, Hash)]
pub struct Image {
    busybox: bool,
    /// Path, mode and content.
    files: Vec<(String, u32, Vec<u8>)>,
    changes: Vec<String>,
}

/// A name given to an image; taken away again when it is dropped.
#[derive(Debug)]
pub struct Tag {
    docker: Docker,
    pub name: String,
}

impl Image {
    /// Nothing but what is put into it.
    pub fn scratch() -> Image {
        Image::default()
    }

    /// A static busybox under all its names.
    pub fn busybox() -> Image {
        Image { busybox: true, ..Image::default() }
    }

    /// A file; executable, because that does no harm.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Image {
        self.files.push((path.to_owned(), 0o755, content.into()));
        self
    }

    /// A file that only root can read.
    #[must_use]
    pub fn private_file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Image {
        self.files.push((path.to_owned(), 0o400, content.into()));
        self
    }

    /// busybox, as a program that runs as root whoever starts it.
    #[must_use]
    pub fn setuid_program(mut self, path: &str) -> Image {
        let busybox = fs::read(BUSYBOX).expect("busybox-static is installed");
        self.files.push((path.to_owned(), 0o4755, busybox));
        self
    }

    /// The machine's static busybox, as a program of this name and nothing else.
    #[must_use]
    pub fn program(self, path: &str) -> Image {
        let busybox = fs::read(BUSYBOX).expect("busybox-static is installed");
        self.file(path, busybox)
    }

    /// A line of a Dockerfile: `USER app`, `CMD ["sleep", "9"]`.
    #[must_use]
    pub fn change(mut self, instruction: &str) -> Image {
        self.changes.push(instruction.to_owned());
        self
    }

    /// Makes it on the machine's Engine, unless it is there.
    pub fn build(&self) -> String {
        self.build_on(&Docker::of_machine())
    }

    pub fn build_on(&self, docker: &Docker) -> String {
        let _turn = Turn::take("testkit-image");
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        let (repository, tag) = ("chassis-testkit/image", format!("{:016x}", hasher.finish()));
        let name = format!("{repository}:{tag}");
        let filter = encode(&serde_json::json!({ "reference": [name] }).to_string());
        if docker.get(&format!("/images/json?filters={filter}")).as_array().is_some_and(Vec::is_empty) {
            let changes: String =
                self.changes.iter().flat_map(|change| ["&changes=".to_owned(), encode(change)]).collect();
            let target = format!("/images/create?fromSrc=-&repo={repository}&tag={tag}{changes}");
            docker.must("POST", &target, &self.tar());
        }
        name
    }

    fn tar(&self) -> Vec<u8> {
        let home = tempfile::tempdir().expect("a directory");
        if self.busybox {
            let bin = home.path().join("bin");
            fs::create_dir(&bin).expect("a directory");
            fs::copy(BUSYBOX, bin.join("busybox")).expect("busybox-static is installed");
            let applets = Command::new(BUSYBOX).arg("--list").output().expect("busybox runs");
            for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|name| *name != "busybox") {
                symlink("busybox", bin.join(applet)).expect("a link");
            }
        }
        for (path, mode, content) in &self.files {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().expect("a path below the root")).expect("a directory");
            fs::write(&path, content).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).expect("a mode");
        }
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        let tar = Command::new("tar")
            .args(["--owner=0", "--group=0", "--numeric-owner", "-c", "-C"])
            .arg(home.path())
            .arg(".")
            .output()
            .expect("tar runs");
        assert!(tar.status.success(), "tar fails: {}", String::from_utf8_lossy(&tar.stderr));
        tar.stdout
    }
}

impl Tag {
    /// Gives an image one more name, `repository:1`.
    pub fn new(docker: &Docker, image: &str, repository: &str) -> Tag {
        docker.must("POST", &format!("/images/{image}/tag?repo={}&tag=1", encode(repository)), b"");
        Tag { docker: docker.clone(), name: format!("{repository}:1") }
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        self.docker.remove_image(&self.name);
    }
}
