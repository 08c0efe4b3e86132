//! Secrets at rest, the key that protects them, and changing that key however often one is interrupted.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use chassis_core::EventKind;
use chassis_spec::Labels;
use chassis_store::{Error, KeyFile, KeySource, MAX_SECRET_BYTES, SqlStore, Store};
use rusqlite::Connection;
use zeroize::Zeroizing;

use crate::support::{Home, code, events, fleet, secret, value};

const ONE: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const TWO: &str = "2222222222222222222222222222222222222222222222222222222222222222";

fn with_environment(home: &Home, digits: &str) -> chassis_store::Result<SqlStore> {
    SqlStore::open_sqlite(&home.database(), KeySource::Environment(Zeroizing::new(digits.to_owned())))
}

async fn read(store: &SqlStore, name: &str) -> String {
    String::from_utf8(store.secret_read(&fleet("f"), &secret(name)).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn a_secret_is_kept_replaced_and_deleted() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    let (f, key) = (fleet("f"), secret("key"));
    assert!(!home.key().exists(), "no key is made before it is used");
    let first = store.secret_write(&f, &key, value("first"), false, None).await.unwrap();
    assert_eq!(fs::metadata(home.key()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(home.database()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(code(store.secret_write(&f, &key, value("second"), false, None).await), "secret_exists");
    assert_eq!(read(&store, "key").await, "first");
    let second = store.secret_write(&f, &key, value("second"), true, None).await.unwrap();
    assert_eq!((first.version, second.version, second.created_at), (1, 2, first.created_at));
    drop(store);

    let store = home.open();
    assert_eq!(read(&store, "key").await, "second");
    assert_eq!(store.secret_list(Some(&f)).await.unwrap(), [second]);
    store.secret_delete(&f, &key, None).await.unwrap();
    assert_eq!(code(store.secret_read(&f, &key).await), "secret_not_found");
    assert_eq!(code(store.secret_delete(&f, &key, None).await), "secret_not_found");
    assert_eq!(code(store.secret_list(Some(&fleet("g"))).await), "fleet_not_found");
    let kinds: Vec<_> = events(&store).await.into_iter().skip(1).map(|event| event.kind).collect();
    let name = || "key".to_owned();
    let (written, deleted) =
        (EventKind::SecretWritten { name: name() }, EventKind::SecretDeleted { name: name() });
    assert_eq!(kinds, [written.clone(), written, deleted]);
}

#[tokio::test]
async fn a_secret_has_bounds() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    let write = |bytes: usize| {
        let store = &store;
        async move {
            let value = Zeroizing::new(vec![0xff; bytes]);
            store.secret_write(&fleet("f"), &secret("big"), value, true, None).await
        }
    };
    assert_eq!(code(write(0).await), "secret_empty");
    assert_eq!(code(write(MAX_SECRET_BYTES + 1).await), "secret_too_large");
    write(MAX_SECRET_BYTES).await.unwrap();
    let value = store.secret_read(&fleet("f"), &secret("big")).await.unwrap();
    assert_eq!(*value, vec![0xff; MAX_SECRET_BYTES]);
}

#[tokio::test]
async fn no_file_ever_holds_a_value() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    let (f, key) = (fleet("f"), secret("visible-name"));
    let values = ["correct-horse-battery", "staple-correct-horse", "battery-staple-horse"];
    for text in values {
        store.secret_write(&f, &key, value(text), true, None).await.unwrap();
    }
    assert!(home.contains(b"visible-name"), "this looks into the right files");
    store.secret_rotate(None).await.unwrap();
    store.secret_delete(&f, &key, None).await.unwrap();
    for closed in [false, true] {
        for text in values {
            assert!(!home.contains(text.as_bytes()), "{text} is in a file, closed: {closed}");
        }
        if !closed {
            store.fleet_create(&fleet("other"), &Labels::default()).await.unwrap();
        }
    }
    drop(store);
    assert!(values.iter().all(|text| !home.contains(text.as_bytes())));
}

#[tokio::test]
async fn a_record_cannot_be_passed_off_as_another() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    for (name, text) in [("mine", "mine"), ("yours", "yours")] {
        store.secret_write(&fleet("f"), &secret(name), value(text), false, None).await.unwrap();
    }
    drop(store);
    let raw = Connection::open(home.database()).unwrap();
    raw.execute_batch(
        "UPDATE secrets SET (nonce, ciphertext) = (SELECT nonce, ciphertext FROM secrets WHERE name = 'yours')
         WHERE name = 'mine'",
    )
    .unwrap();
    drop(raw);
    let store = home.open();
    assert_eq!(code(store.secret_read(&fleet("f"), &secret("mine")).await), "secret_damaged");
    assert_eq!(read(&store, "yours").await, "yours");
    assert_eq!(code(store.secret_rotate(None).await), "secret_damaged");
    drop(store);
    assert_eq!(read(&home.open(), "yours").await, "yours");
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_refused() {
    let home = Home::new();
    let store = with_environment(&home, ONE).unwrap();
    store.fleet_create(&fleet("f"), &Labels::default()).await.unwrap();
    store.secret_write(&fleet("f"), &secret("key"), value("x"), false, None).await.unwrap();
    drop(store);

    let wrong = with_environment(&home, TWO).unwrap_err();
    assert_eq!(wrong.code(), "key_mismatch");
    assert!(!wrong.to_string().contains("2222222222222222"), "{wrong}");
    for malformed in ["", "12", &ONE[1..], &format!("g{}", &ONE[1..]), &format!("é{}", &ONE[2..])] {
        let error = with_environment(&home, malformed).unwrap_err();
        assert_eq!(error.code(), "key_malformed");
        assert!(malformed.is_empty() || !format!("{error} {error:?}").contains(malformed));
    }
    assert_eq!(code(home.try_open()), "key_missing");
    assert!(!home.key().exists(), "a key that cannot open the secrets is not made");
    let hidden = format!("{:?}", KeySource::Environment(Zeroizing::new(ONE.to_owned())));
    assert!(!hidden.contains('1'), "{hidden}");

    fs::write(home.key(), format!("{ONE}\n")).unwrap();
    fs::set_permissions(home.key(), fs::Permissions::from_mode(0o640)).unwrap();
    let exposed = home.try_open().unwrap_err();
    assert_eq!(exposed.code(), "key_exposed");
    assert!(exposed.to_string().contains(&format!("chmod 600 {}", home.key().display())));
    fs::set_permissions(home.key(), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(read(&home.open(), "key").await, "x");
}

#[tokio::test]
async fn the_environments_key_changes_only_for_a_given_one() {
    let home = Home::new();
    let store = with_environment(&home, ONE).unwrap();
    store.fleet_create(&fleet("f"), &Labels::default()).await.unwrap();
    store.secret_write(&fleet("f"), &secret("key"), value("x"), false, None).await.unwrap();
    assert_eq!(code(store.secret_rotate(None).await), "key_needed");
    let rotate = |digits: &str| store.secret_rotate(Some(Zeroizing::new(digits.to_owned())));
    assert_eq!(code(rotate("short").await), "key_malformed");
    assert_eq!(rotate(TWO).await.unwrap(), 1);
    assert_eq!(code(rotate(TWO).await), "key_in_use");
    assert_eq!(read(&store, "key").await, "x");
    drop(store);
    assert_eq!(code(with_environment(&home, ONE)), "key_mismatch");
    assert_eq!(read(&with_environment(&home, TWO).unwrap(), "key").await, "x");
}

#[tokio::test]
async fn rotation_leaves_nothing_that_the_old_key_opens() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    let big = "0123456789abcdef".repeat(1000);
    store.secret_write(&fleet("f"), &secret("big"), value(&big), false, None).await.unwrap();
    store.secret_write(&fleet("f"), &secret("small"), value("x"), false, None).await.unwrap();
    let old_key = fs::read(home.key()).unwrap();
    let raw = Connection::open(home.database()).unwrap();
    let sealed = || -> Vec<Vec<u8>> {
        let mut statement = raw.prepare("SELECT ciphertext FROM secrets").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let old = sealed();
    assert!(old.iter().all(|ciphertext| home.contains(&ciphertext[..16])));

    assert_eq!(store.secret_rotate(None).await.unwrap(), 2);
    assert_ne!(fs::read(home.key()).unwrap(), old_key);
    assert_eq!(read(&store, "big").await, big);
    for ciphertext in old {
        for part in ciphertext.chunks_exact(16) {
            assert!(!home.contains(part), "a piece that was encrypted with the old key is still in a file");
        }
    }
    assert_eq!(code(store.secret_rotate(Some(Zeroizing::new(ONE.to_owned()))).await), "key_not_needed");
}

#[tokio::test]
async fn a_rotation_that_is_cut_off_anywhere_loses_nothing() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    store.secret_write(&fleet("f"), &secret("key"), value("x"), false, None).await.unwrap();
    let before = home.crash();
    store.secret_rotate(None).await.unwrap();
    let after = home.crash();
    drop(store);
    let (old, new) = (fs::read(before.key()).unwrap(), fs::read(after.key()).unwrap());
    assert_ne!(old, new);

    // Which database the power cut left, and which files beside it: each moment that there is, in order.
    let moments = [
        ("the new key is half written", &before, &old[..], Some(&new[..20])),
        ("the new key is written, no secret is", &before, &old[..], Some(&new[..])),
        ("the secrets are committed, the old key has its name yet", &after, &old[..], Some(&new[..])),
        ("the new key has the name", &after, &new[..], None),
        ("the old file was not a key at all", &after, &b"rubbish"[..], Some(&new[..])),
    ];
    for (moment, database, key, new_key) in moments {
        let home = database.crash();
        let beside = home.path("key.new");
        write_private(&home.key(), key);
        if let Some(bytes) = new_key {
            write_private(&beside, bytes);
        }
        for _ in 0..2 {
            let store = home.try_open().unwrap_or_else(|error| panic!("{moment}: {error}"));
            assert_eq!(read(&store, "key").await, "x", "{moment}");
            assert!(!beside.exists(), "{moment}");
        }
        home.open().secret_rotate(None).await.unwrap();
        assert_eq!(read(&home.open(), "key").await, "x", "rotated again after: {moment}");
    }
}

/// The new key could not take the old one's name. It is then the only copy of the key that counts.
#[tokio::test]
async fn a_new_key_that_could_not_be_installed_is_not_overwritten() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    store.secret_write(&fleet("f"), &secret("key"), value("x"), false, None).await.unwrap();
    fs::remove_file(home.key()).unwrap();
    fs::create_dir(home.key()).unwrap();
    for _ in 0..2 {
        assert_eq!(code(store.secret_rotate(None).await), "key_file");
        assert_eq!(read(&store, "key").await, "x");
    }
    let crashed = home.crash();
    assert_eq!(read(&crashed.open(), "key").await, "x");
    fs::remove_dir(home.key()).unwrap();
    assert_eq!(store.secret_rotate(None).await.unwrap(), 1);
    drop(store);
    assert_eq!(read(&home.open(), "key").await, "x");
}

fn write_private(path: &std::path::Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_key_file_opens_what_it_sealed_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    let sealed = KeyFile::open(&path).unwrap().seal("one", Zeroizing::new(b"hush".to_vec())).unwrap();
    assert!(!sealed.windows(4).any(|part| part == b"hush"));
    let key = KeyFile::open(&path).unwrap();
    assert_eq!(key.unseal("one", &sealed).as_deref().map(Vec::as_slice), Some(&b"hush"[..]));
    assert_eq!(key.unseal("other", &sealed), None, "what was sealed for something else");
    assert_eq!(key.unseal("one", &sealed[..8]), None, "a part of it");
    let other = KeyFile::open(&directory.path().join("other")).unwrap();
    assert_eq!(other.unseal("one", &sealed), None, "another key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(KeyFile::open(&path), Err(Error::KeyExposed(_))));
}
