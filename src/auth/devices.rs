//! Devices: browsers from which an operator has signed in before. Each has a limit of its own on failed sign-ins, after
//! OWASP's [device cookies](https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::{CryptoRng, RngExt};

use crate::domain::ids::OperatorId;
use crate::domain::operators::{Operator, Username};
use crate::domain::secrets::{DerivedKey, Keyring};

/// A browser, as a valid cookie identifies it. It grants nothing but its own limit on attempts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Device {
    id: [u8; 16],
    operator: OperatorId,
    password_version: u64,
}

/// `Debug` does not print the id, since it is a part of the cookie.
impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Device(…)")
    }
}

impl Device {
    /// A new browser of an operator.
    pub fn new(operator: &Operator, rng: &mut dyn CryptoRng) -> Self {
        Self { id: rng.random(), operator: operator.id, password_version: operator.password_version }
    }

    /// Returns true if the operator has signed in from here with their current password.
    pub fn belongs_to(&self, operator: &Operator) -> bool {
        self.operator == operator.id && self.password_version == operator.password_version
    }

    pub fn id(&self) -> &[u8; 16] {
        &self.id
    }
}

/// The cookie of a device, without what every cookie of Keymark has.
pub struct DeviceCookie {
    /// Ends the cookie's name: one browser may belong to several operators.
    pub suffix: String,
    pub value: String,
}

/// Issues and reads the cookies of devices: `<operator>.<password version>.<id>.<MAC>`.
pub struct Devices {
    /// The current key first.
    keys: Vec<DerivedKey>,
}

impl Devices {
    pub fn new(keys: &Keyring) -> Self {
        Self { keys: keys.iter().map(|keys| keys.devices.clone()).collect() }
    }

    pub fn issue(&self, device: &Device, username: &Username) -> DeviceCookie {
        let key = &self.keys[0];
        let text = format!("{}.{}.{}", device.operator, device.password_version, hex::encode(device.id));
        let mac = key.mac(&mac_parts(&text, username));
        let suffix = hex::encode(&key.mac(&[b"name", username.as_str().as_bytes()])[..8]);
        DeviceCookie { suffix, value: format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac)) }
    }

    /// Returns the device if the cookie was issued to an operator with this username.
    pub fn read(&self, username: &Username, cookie: &str) -> Option<Device> {
        let (text, mac) = cookie.rsplit_once('.')?;
        let mac: [u8; 32] = URL_SAFE_NO_PAD.decode(mac).ok()?.try_into().ok()?;
        if !self.keys.iter().any(|key| key.verifies(&mac_parts(text, username), &mac)) {
            return None;
        }
        let mut parts = text.split('.');
        let (operator, version, id) = (parts.next()?, parts.next()?, parts.next()?);
        let mut device =
            Device { id: [0; 16], operator: operator.parse().ok()?, password_version: version.parse().ok()? };
        hex::decode_to_slice(id, &mut device.id).ok()?;
        Some(device)
    }
}

/// Unambiguous, since a username contains no zero byte.
fn mac_parts<'a>(text: &'a str, username: &'a Username) -> [&'a [u8]; 4] {
    [b"device", text.as_bytes(), b"\0", username.as_str().as_bytes()]
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::domain::operators::PasswordHash;
    use crate::domain::permissions::Permissions;
    use crate::domain::secrets::RootSecret;
    use crate::domain::time::Timestamp;

    fn root(byte: u8) -> RootSecret {
        RootSecret::new(vec![byte; 32]).unwrap()
    }

    fn operator(username: &str) -> Operator {
        let (now, hash) = (Timestamp::default(), PasswordHash::from_phc(String::new()));
        let id = OperatorId::new(now, &mut StdRng::seed_from_u64(1));
        Operator::new(id, "acme".parse().unwrap(), username.parse().unwrap(), hash, Permissions::NONE, now)
    }

    #[test]
    fn cookie_names_the_device_of_one_account_and_password() {
        let (devices, ada) = (Devices::new(&Keyring::new(&root(1), &[])), operator("ada"));
        let device = Device::new(&ada, &mut StdRng::seed_from_u64(2));
        let cookie = devices.issue(&device, &ada.username);
        assert_eq!(devices.read(&ada.username, &cookie.value), Some(device));
        assert_eq!(devices.read(&"bob".parse().unwrap(), &cookie.value), None, "bound to the account");
        assert!(device.belongs_to(&ada));
        let changed = ada.with_password(PasswordHash::from_phc(String::new()), Timestamp::default());
        assert!(!device.belongs_to(&changed), "a new password makes every browser a stranger");
        assert!(!cookie.suffix.contains("ada") && !cookie.value.contains("ada"));
        assert_eq!(format!("{device:?}"), "Device(…)");
    }

    #[test]
    fn forged_cookie_names_no_device() {
        let (devices, ada) = (Devices::new(&Keyring::new(&root(1), &[])), operator("ada"));
        let device = Device::new(&ada, &mut StdRng::seed_from_u64(2));
        let value = devices.issue(&device, &ada.username).value;
        let (text, mac) = value.rsplit_once('.').unwrap();
        let forged = [
            String::new(),
            "...".to_owned(),
            text.to_owned(),
            format!("{text}."),
            format!("{text}.{}", &mac[..20]),
            format!("{}.{mac}", text.replace(".1.", ".2.")),
            Devices::new(&Keyring::new(&root(2), &[])).issue(&device, &ada.username).value,
        ];
        for forged in forged {
            assert_eq!(devices.read(&ada.username, &forged), None, "{forged}");
        }
        let replaced = Devices::new(&Keyring::new(&root(2), &[root(1)]));
        assert_eq!(replaced.read(&ada.username, &value), Some(device), "a previous secret still identifies it");
    }
}
