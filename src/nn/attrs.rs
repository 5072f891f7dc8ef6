//! Settings of a layer as a file keeps them.

use crate::error::{ModelError, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// Named settings of a layer, in sorted order; shapes are not among them, they live in the tensors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attrs(BTreeMap<String, serde_json::Value>);

impl Attrs {
    /// No settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a setting.
    ///
    /// # Panics
    /// If `value` has no JSON form, which no number, string, list or unit enum lacks.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value)
            .expect("numbers, strings, lists and enums have a JSON form");
        self.0.insert(name.to_string(), value);
        self
    }

    /// Reads a setting.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) if it is missing or of another type.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let value = self.0.get(name).ok_or_else(|| ModelError::MissingSetting(name.into()))?;
        T::deserialize(value).map_err(|error| {
            let (value, reason) = (value.to_string(), error.to_string());
            ModelError::WrongSetting { name: name.into(), value, reason }.into()
        })
    }

    /// Reads a setting that may be missing.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) if it is of another type.
    pub fn get_or<T: DeserializeOwned>(&self, name: &str, default: T) -> Result<T> {
        if self.0.contains_key(name) { self.get(name) } else { Ok(default) }
    }

    /// The settings in sorted order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &serde_json::Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Shapes of a layer's parameters by local name, as a file lists them: what
/// [`super::Registered::from_attrs`] builds from.
#[derive(Debug, Clone, Default)]
pub struct Shapes(pub(crate) BTreeMap<String, (usize, usize)>);

impl Shapes {
    /// Rows and columns of the parameter `name`.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) if there is none of that name.
    pub fn get(&self, name: &str) -> Result<(usize, usize)> {
        self.find(name).ok_or_else(|| ModelError::MissingParam(name.into()).into())
    }

    /// Rows and columns of the parameter `name`, if there is one.
    pub fn find(&self, name: &str) -> Option<(usize, usize)> {
        self.0.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_setting_that_is_missing_has_its_default_and_one_of_another_type_is_an_error() {
        let attrs = Attrs::new().with("eps", "much").with("heads", 3);
        assert_eq!(attrs.get_or("alpha", 0.5).unwrap(), 0.5);
        assert_eq!(attrs.get_or("heads", 1).unwrap(), 3);
        for error in [
            attrs.get_or("eps", 0.5).unwrap_err(),
            attrs.get::<f64>("eps").unwrap_err(),
            attrs.get::<f64>("alpha").unwrap_err(),
        ] {
            assert!(matches!(error, Error::Model(_)), "{error}");
        }
    }
}
