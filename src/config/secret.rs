//! What a configuration keeps secret, and who it belongs to.
//!
//! Secrets and passwords never appear in an error, in [`std::fmt::Debug`] or in what is serialized.

use super::value::written_as_text;
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// Shortest shared secret taken, in bytes.
pub const SECRET_LEN_MIN: usize = 16;
/// Longest user name, in bytes (RFC 8489 §14.3).
pub const USER_NAME_LEN_MAX: usize = 508;

written_as_text! {
    Secret: "a secret in quotes";
    Password: "a password in quotes";
    UserName: "a user name";
}

/// A shared secret of the TURN REST API, [`SECRET_LEN_MIN`] bytes or longer.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A secret of a coturn file, of any length.
    pub(super) fn of_coturn(text: &str) -> Self {
        Secret(Zeroizing::new(text.to_owned()))
    }

    /// The secret's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() < SECRET_LEN_MIN {
            let len = text.len();
            return Err(format!(
                "a secret of {len} bytes can be guessed: {SECRET_LEN_MIN} or more are needed, \
                 `openssl rand -base64 24` makes one"
            ));
        }
        Ok(Secret(Zeroizing::new(text.to_owned())))
    }
}

/// A long-term user's password, or the MD5 key of `user:realm:password` written `0x` and 32
/// hexadecimal digits, as coturn stores it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// The password as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key, when the password is one.
    pub fn md5_key(&self) -> Option<[u8; 16]> {
        let digits = self.0.strip_prefix("0x")?;
        if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
    }
}

impl FromStr for Password {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a password can not be empty".into());
        }
        if text.contains(['\0', '\r', '\n']) {
            return Err("a password has no NUL and no line break".into());
        }
        Ok(Password(Zeroizing::new(text.to_owned())))
    }
}

macro_rules! never_printed {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "(set, {} bytes)", self.0.len())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}

never_printed! { Secret Password }

/// The name of a long-term user: 1 to [`USER_NAME_LEN_MAX`] bytes on one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserName(String);

impl UserName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > USER_NAME_LEN_MAX {
            return Err(format!("a user name has 1 to {USER_NAME_LEN_MAX} bytes, not {}", text.len()));
        }
        if text.contains(['\0', '\r', '\n']) {
            return Err("a user name has no NUL and no line break".into());
        }
        Ok(UserName(text.to_owned()))
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_at_least_16_bytes_and_is_never_printed() {
        let secret: Secret = "0123456789abcdef".parse().unwrap();
        assert_eq!(format!("{secret} {secret:?}"), "(set, 16 bytes) (set, 16 bytes)");
        let refused = "0123456789abcde".parse::<Secret>().unwrap_err();
        assert!(refused.contains("15 bytes") && !refused.contains("0123"), "{refused}");
    }

    #[test]
    fn a_password_may_be_the_key_coturn_stores() {
        let key: Password = "0x8493fbc53ba582fb4c044c456bdc40eb".parse().unwrap();
        assert_eq!(key.md5_key().unwrap()[..2], [0x84, 0x93]);
        for text in ["8493fbc53ba582fb4c044c456bdc40eb", "0x8493", "0x+493fbc53ba582fb4c044c456bdc40eb"] {
            assert_eq!(text.parse::<Password>().unwrap().md5_key(), None, "{text}");
        }
        assert!("".parse::<Password>().is_err() && "a\nb".parse::<Password>().is_err());
    }

    #[test]
    fn a_user_name_has_1_to_508_bytes() {
        assert!("x".repeat(USER_NAME_LEN_MAX).parse::<UserName>().is_ok());
        for text in [String::new(), "x".repeat(USER_NAME_LEN_MAX + 1), "a\0b".into(), "a\rb".into()] {
            assert!(text.parse::<UserName>().is_err());
        }
    }
}
