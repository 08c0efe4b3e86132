//! Builds chassis-init for musl, so that it is carried inside the binary and runs in any image.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Settings of the outer build that are meant for it alone: its target, its flags, its wrappers.
const NOT_INHERITED: [&str; 6] =
    ["RUSTFLAGS", "RUSTC", "RUSTC_LINKER", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTDOC"];
/// Where the registry is and how it is reached is the same for both.
const INHERITED_PREFIXES: [&str; 4] = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR"];

#[expect(clippy::print_stderr, reason = "the way of a build script to say why it failed")]
fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let variable = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("../..");
    let output = PathBuf::from(variable("OUT_DIR")?).join("init");
    let target = format!("{}-unknown-linux-musl", variable("CARGO_CFG_TARGET_ARCH")?);
    for path in ["Cargo.toml", "crates/init/Cargo.toml", "crates/init/src"] {
        emit(&format!("rerun-if-changed={}", workspace.join(path).display()));
    }
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(&workspace)
        .args([
            "build",
            "--package",
            "chassis-init",
            "--bin",
            "chassis-init",
            "--profile",
            "init",
            "--locked",
        ])
        .args(["--target", &target])
        .arg("--target-dir")
        .arg(&output);
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let inherited = INHERITED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        if NOT_INHERITED.contains(&name) || (name.starts_with("CARGO_") && !inherited) {
            cargo.env_remove(name);
        }
    }
    // The toolchain's own linker: no C compiler for that target is needed.
    let linker = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
    let built =
        cargo.env(linker, "rust-lld").output().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !built.status.success() {
        let output = String::from_utf8_lossy(&built.stderr);
        let hint = if output.contains("E0463") || output.contains("may not be installed") {
            format!(
                "\nchassis-init needs the target {target}; install it with\n    rustup target add {target}\n"
            )
        } else {
            String::new()
        };
        return Err(format!("building chassis-init failed:\n{output}{hint}"));
    }
    let program = output.join(&target).join("init/chassis-init");
    emit(&format!("rustc-env=CHASSIS_INIT_PROGRAM={}", program.display()));
    Ok(())
}

fn emit(directive: &str) {
    println!("cargo::{directive}");
}
