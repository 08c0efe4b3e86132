//! What holds of instances on a real Docker Engine, seen from inside the sandbox and through the `docker` command.

mod support;

use chassis_runtime::{InstanceSecrets, Runtime};
use serde_json::json;
use support::{Docker, LocalImage, docker, output, wait_for_output};

const NO_SECRETS: InstanceSecrets = InstanceSecrets { env: Vec::new(), files: Vec::new() };

#[tokio::test]
async fn the_sandbox_is_closed_unless_the_spec_opens_it() {
    let image = LocalImage::busybox(&[], &[]);
    let docker_runtime = Docker::new();
    let script = "id -u; id -g; grep -E '^(Cap(Eff|Prm|Bnd)|NoNewPrivs|Seccomp):' /proc/self/status; touch /x; \
                  ulimit -Hn; touch /tmp/x /tmpfs/x && echo memory; echo $HOME $USER $CHASSIS_FLEET/$CHASSIS_INSTANCE \
                  $CHASSIS_AGENT $CHASSIS_NUMBER; hostname; touch /.chassis/x";
    let config = docker_runtime
        .config(
            json!({ "image": image.name, "command": ["sh", "-c", script], "resources": { "files": 4321 } }),
        )
        .await;
    let (code, text) = docker_runtime.run(&config, NO_SECRETS).await;
    let fleet = config.key.fleet.as_str();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["64646", "64646"]);
    for closed in ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000"] {
        assert!(lines.contains(&closed), "{text}");
    }
    assert!(text.contains("NoNewPrivs:\t1") && text.contains("Seccomp:\t2"), "{text}");
    assert!(text.contains("touch: /x: Read-only file system"), "{text}");
    assert!(text.contains("touch: /.chassis/x: Read-only file system"), "{text}");
    assert!(text.contains("\n4321\nmemory\n"), "{text}");
    assert!(text.contains(&format!("/tmpfs chassis {fleet}/agent-1 agent 1\nagent-1\n")), "{text}");
    assert_eq!(code, 1, "the last touch failed");
}
