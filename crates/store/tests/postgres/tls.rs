//! The way to the database: whom TLS trusts, and where a password comes from.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use chassis_store::{PostgresOptions, migrate_postgres};
use chassis_testkit::Postgres;

/// Who has a certificate needs no password; its name must be the user's.
const HBA: &str = "local all all trust\nhostssl test2 all 127.0.0.1/32 cert\n\
                   hostssl all all 127.0.0.1/32 scram-sha-256\n";
const PASSWORD: &str = "correct:horse\\battery";

#[test]
fn tls_trusts_what_sslmode_says_and_the_password_comes_from_files() {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let path = |name: &str| home.path().join(name).display().to_string();
    // The certificate is for a name, so that it does not fit the address.
    for (name, other) in [("server", "db.example"), ("stranger", "localhost"), ("chassis", "chassis")] {
        make_certificate(home.path(), name, other);
    }
    fs::write(path("hba"), HBA).unwrap();
    fs::set_permissions(path("hba"), fs::Permissions::from_mode(0o644)).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = [
        "fsync=off".to_owned(),
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", path("server.pem")),
        format!("ssl_key_file={}", path("server.key")),
        format!("ssl_ca_file={}", path("chassis.pem")),
        format!("hba_file={}", path("hba")),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let Some(postgres) = Postgres::start_with(&settings) else { return };
    postgres.database();
    postgres.sql("postgres", &format!("ALTER ROLE chassis PASSWORD '{PASSWORD}'"));
    fs::write(path("pass"), "# mine\nother:*:*:*:no\n*:*:test1:chassis:correct\\:horse\\\\battery\n")
        .unwrap();
    let connect = |host: &str, parameters: &str| {
        let pass = path("pass");
        let url = format!("postgres://chassis@{host}:{port}/test1?passfile={pass}&{parameters}");
        let migrated = PostgresOptions::new(&url, "t").and_then(|options| migrate_postgres(&options));
        migrated.map(drop).map_err(|error| {
            let text = format!("{error:?}");
            assert!(!text.contains("battery"), "{text}");
            text
        })
    };
    let (own, stranger) = (path("server.pem"), path("stranger.pem"));
    let refused = |outcome: Result<(), String>, why: &str| {
        let error = outcome.unwrap_err();
        assert!(error.contains(why), "{error} does not say {why}");
    };

    connect("127.0.0.1", "sslmode=require").unwrap();
    connect("127.0.0.1", "sslmode=prefer").unwrap();
    connect("127.0.0.1", "").unwrap();
    refused(connect("127.0.0.1", "sslmode=disable"), "pg_hba.conf");
    connect("127.0.0.1", &format!("sslmode=verify-ca&sslrootcert={own}")).unwrap();
    connect("127.0.0.1", &format!("sslmode=require&sslrootcert={own}")).unwrap();
    refused(connect("127.0.0.1", &format!("sslmode=verify-full&sslrootcert={own}")), "NotValidForName");
    connect("db.example", &format!("hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={own}")).unwrap();
    for mode in ["require", "verify-ca", "verify-full"] {
        refused(connect("127.0.0.1", &format!("sslmode={mode}&sslrootcert={stranger}")), "UnknownIssuer");
    }
    refused(connect("127.0.0.1", "sslmode=verify-full"), "UnknownIssuer");

    // The client's own certificate.
    postgres.database();
    let with = |certificate: &str, key: &str| {
        let (certificate, key) = (path(certificate), path(key));
        let url = format!(
            "postgres://chassis@127.0.0.1:{port}/test2?sslmode=require&sslcert={certificate}&sslkey={key}"
        );
        let migrated = PostgresOptions::new(&url, "t").and_then(|options| migrate_postgres(&options));
        migrated.map(drop).map_err(|error| format!("{error:?}"))
    };
    with("chassis.pem", "chassis.key").unwrap();
    assert!(with("stranger.pem", "stranger.key").is_err(), "nobody vouches for it");
    refused(with("chassis.pem", "stranger.key"), "sslcert and sslkey");
    refused(with("nowhere.pem", "chassis.key"), "nowhere.pem");
    refused(connect("127.0.0.1", &format!("sslcert={own}")), "give sslkey too");

    fs::write(path("pass"), "*:*:*:*:wrong\n").unwrap();
    refused(connect("127.0.0.1", "sslmode=require"), "password authentication failed");
}

/// One that vouches for itself, and its key, as Postgres wants it.
fn make_certificate(home: &Path, name: &str, host: &str) {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(home).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
    let (subject, names) = (format!("/CN={host}"), format!("subjectAltName=DNS:{host}"));
    let kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let leaf = "basicConstraints=critical,CA:FALSE";
    let rest = [
        "-subj",
        &subject,
        "-addext",
        leaf,
        "-addext",
        &names,
        "-keyout",
        &key,
        "-out",
        &certificate,
        "-days",
        "2",
    ];
    run("openssl", &[&kind[..], &rest[..]].concat());
    fs::set_permissions(home.join(&key), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(home.join(&certificate), fs::Permissions::from_mode(0o644)).unwrap();
    if rustix::process::geteuid().is_root() {
        run("chown", &["postgres", &key]);
    }
}
