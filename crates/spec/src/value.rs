//! Strings that were checked once: names, paths, references. Each can only be made by parsing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::grammar;
use crate::text::Text;

/// Why a string is not the value that it should be: what was wrong, then what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(pub String);

/// A checked string: parsing is the only way to one. `$read` checks the text and gives its canonical form.
macro_rules! checked_string {
    ($(#[doc = $doc:literal])* $name:ident, $types:tt, $pattern:expr, $read:expr) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                let read: fn(&str) -> Result<Cow<'_, str>, InvalidValue> = $read;
                Ok($name(read(text)?.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidValue;

            fn try_from(text: String) -> Result<Self, InvalidValue> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Text::deserialize(deserializer)?.0.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "description": concat!($($doc),*).trim(),
                    "type": $types,
                    "pattern": $pattern,
                })
            }
        }
    };
}

/// A DNS label of at most 40 characters.
const LABEL: &str = "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$";

checked_string!(
    /// A fleet's name: a DNS label of at most 40 characters.
    FleetName, "string", LABEL, |text| grammar::label(text, "fleet name")
);
checked_string!(
    /// An agent's name: a DNS label of at most 40 characters.
    AgentName, "string", LABEL, |text| grammar::label(text, "agent name")
);
checked_string!(
    /// A volume's name, and its directory's in tier 1: a DNS label of at most 40 characters.
    VolumeName, "string", LABEL, |text| grammar::label(text, "volume name")
);
checked_string!(
    /// A secret's name within its fleet: a DNS label of at most 40 characters.
    SecretName, "string", LABEL, |text| grammar::label(text, "secret name")
);
checked_string!(
    /// An API key's name: a DNS label of at most 40 characters.
    ApiKeyName, "string", LABEL, |text| grammar::label(text, "key name")
);
checked_string!(
    /// A cluster's id: a DNS label of at most 40 characters.
    ClusterId, "string", LABEL, |text| grammar::label(text, "cluster id")
);
checked_string!(
    /// The name of an environment variable: letters, digits, `_`, `-` and `.`, not beginning with a digit.
    EnvName, "string", "^[A-Za-z_.-][A-Za-z0-9_.-]{0,255}$", |text| grammar::env_name(text)
);
checked_string!(
    /// An image as `docker pull` takes it: `[host[:port]/]path[:tag][@sha256:digest]`.
    ImageName, "string", r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$", |text| grammar::image(text)
);
checked_string!(
    /// An absolute path inside the sandbox, without `.`, `..`, `//` or a slash at its end.
    MountPath, "string", "^/", |text| grammar::absolute_path(text, "path inside the sandbox")
);
checked_string!(
    /// An absolute path on the host, without `.`, `..`, `//` or a slash at its end.
    HostPath, "string", "^/", |text| grammar::absolute_path(text, "path on the host")
);
checked_string!(
    /// A named volume of Docker's that exists already.
    DockerVolumeName, "string", "^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$", |text| grammar::docker_volume(text)
);
checked_string!(
    /// The name or address of an NFS server.
    NfsServer, "string", "^[A-Za-z0-9:][A-Za-z0-9.:-]{0,252}$", |text| grammar::nfs_server(text)
);
checked_string!(
    /// An exported directory of an NFS server, in which `{fleet}`, `{agent}`, `{number}` and `{instance}` are replaced.
    NfsPath, "string", "^/", |text| grammar::nfs_path(text)
);
checked_string!(
    /// Mount options, separated by commas: `nfsvers=4.2,soft`.
    NfsOptions, "string", "^[A-Za-z0-9_=.:/-]+(,[A-Za-z0-9_=.:/-]+)*$", |text| grammar::nfs_options(text)
);
checked_string!(
    /// A path relative to a volume, without `.`, `..`, `//` or a slash at either end.
    FileName, "string", "^[^/]", |text| grammar::relative_path(text)
);
checked_string!(
    /// A user, or a user and a group, by number or name: `1000`, `1000:1000`, `app`, `app:app`.
    User, ["string", "integer"], "^[A-Za-z0-9_.][A-Za-z0-9_.-]*(:[A-Za-z0-9_.][A-Za-z0-9_.-]*)?$",
    |text| grammar::user(text)
);
checked_string!(
    /// A signal by name or number: `SIGTERM`, `TERM`, `15`.
    Signal, ["string", "integer"], "^([A-Za-z][A-Za-z0-9]*|[0-9]+)$", |text| grammar::signal(text)
);
checked_string!(
    /// A Linux capability: `NET_BIND_SERVICE`; or `ALL`.
    Capability, "string", "^[A-Za-z_]+$", |text| grammar::capability(text)
);
checked_string!(
    /// The name of an AppArmor profile that the host has loaded, or `unconfined`.
    AppArmorProfile, "string", "^[A-Za-z0-9/][A-Za-z0-9._/:@+-]{0,127}$", |text| grammar::app_armor(text)
);
checked_string!(
    /// The name of a seccomp profile, `<name>.json` in the server's directory of profiles; or `unconfined`.
    SeccompProfile, "string", "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", |text| grammar::seccomp(text)
);
checked_string!(
    /// A part of an SELinux label: `container_t`, `s0:c1,c2`.
    SeLinuxWord, "string", "^[A-Za-z0-9][A-Za-z0-9._:,-]{0,127}$", |text| grammar::se_linux(text)
);
checked_string!(
    /// What stands before every name of an `envFrom`; empty, or itself a name.
    EnvPrefix, "string", "^([A-Za-z_.-][A-Za-z0-9_.-]{0,255})?$",
    |text| if text.is_empty() { Ok(text.into()) } else { grammar::env_name(text) }
);
checked_string!(
    /// A label's name: letters, digits, `.`, `_`, `/` and `-`, at most 128.
    LabelName, "string", "^[A-Za-z0-9]([A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?$", |text| grammar::label_name(text)
);
checked_string!(
    /// A label's value: at most 256 characters on one line.
    LabelValue, ["string", "number", "boolean"], "^.{0,256}$", |text| grammar::label_value(text)
);

impl Capability {
    /// Every capability that there is.
    pub const ALL: &'static str = "ALL";
}

impl User {
    /// True if the user, whatever the group, is root.
    pub fn is_root(&self) -> bool {
        matches!(self.as_str().split(':').next(), Some("root" | "0"))
    }
}

/// Labels of an agent, put on its instances; names that begin with `chassis.` are the server's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Labels(pub BTreeMap<String, String>);

impl Labels {
    /// More than people set by hand; every list carries them.
    pub const MOST: usize = 64;

    /// Refuses too many of them. Where labels come in it is asked, and not where they are read back.
    pub fn check(&self) -> Result<(), InvalidValue> {
        let count = self.0.len();
        if count <= Labels::MOST {
            return Ok(());
        }
        Err(InvalidValue(format!("{count} labels are too many: write at most {}", Labels::MOST)))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let checked = BTreeMap::<LabelName, LabelValue>::deserialize(deserializer)?;
        Ok(Labels(checked.into_iter().map(|(name, value)| (name.into(), value.into())).collect()))
    }
}

impl JsonSchema for Labels {
    fn schema_name() -> Cow<'static, str> {
        "Labels".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Labels, put on the instances; names that begin with `chassis.` are the server's own.",
            "type": "object",
            "maxProperties": Labels::MOST,
            "propertyNames": generator.subschema_for::<LabelName>(),
            "additionalProperties": generator.subschema_for::<LabelValue>(),
        })
    }
}

/// For `deserialize_with`: an [`EnvPrefix`] as plain text.
pub(crate) fn env_prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    EnvPrefix::deserialize(deserializer).map(String::from)
}

/// `secret://<fleet>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretRef {
    pub fleet: FleetName,
    pub name: SecretName,
}

impl std::str::FromStr for SecretRef {
    type Err = InvalidValue;

    /// The text is left out of the error: it may be a secret that somebody put in the place of its name.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong =
            || InvalidValue("this is not a reference to a secret; write secret://<fleet>/<name>".to_owned());
        let (fleet, name) =
            text.strip_prefix("secret://").and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
        Ok(SecretRef { fleet: fleet.parse()?, name: name.parse()? })
    }
}

impl TryFrom<String> for SecretRef {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl From<SecretRef> for String {
    fn from(value: SecretRef) -> String {
        value.to_string()
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "secret://{}/{}", self.fleet, self.name)
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "SecretRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A secret: secret://<fleet>/<name>.",
            "type": "string",
            "pattern": "^secret://[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?/[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$",
        })
    }
}
