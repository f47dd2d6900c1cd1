//! Objects as Go reads them, since it is Go programs that write them: keys in any letter case,
//! `null` and `""` as if nothing were there. Types are strict.

use std::{fmt, str::FromStr};

use serde_json::{Map, Value};

use super::refusal::{Refusal, Result};
use crate::decode;

/// An object and the way to it.
#[derive(Clone, Debug)]
pub(super) struct Keys<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

/// A value and the way to it.
#[derive(Clone, Debug)]
pub(super) struct Item<'a> {
    pub(super) value: &'a Value,
    pub(super) path: String,
}

impl<'a> Item<'a> {
    fn wrong(&self, rule: impl fmt::Display) -> Refusal {
        Refusal::config(&self.path, self.value, rule)
    }

    pub(super) fn text(&self) -> Result<&'a str> {
        self.value.as_str().ok_or_else(|| self.wrong("it should be a text"))
    }

    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(&self) -> Result<T> {
        let text = self.text()?;
        text.parse().map_err(|error| self.wrong(decode::why(text, error)))
    }

    pub(super) fn object(self) -> Result<Keys<'a>> {
        let map = self.value.as_object().ok_or_else(|| self.wrong("it should be an object"))?;
        Ok(Keys { map, path: self.path })
    }

    pub(super) fn list(&self) -> Result<Vec<Self>> {
        let list = self.value.as_array().ok_or_else(|| self.wrong("it should be a list"))?;
        let item = |(n, value)| Item { value, path: format!("{}[{n}]", self.path) };
        Ok(list.iter().enumerate().map(item).collect())
    }
}

impl<'a> Keys<'a> {
    /// The outermost object.
    pub(super) fn root(map: &'a Map<String, Value>) -> Self {
        Self { map, path: String::new() }
    }

    /// The way to a key of it.
    pub(super) fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Whether it has no keys.
    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Its keys and values.
    pub(super) fn items(&self) -> impl Iterator<Item = (&'a str, Item<'a>)> {
        self.map.iter().map(|(key, value)| (key.as_str(), Item { value, path: self.path(key) }))
    }

    /// Whether the key is there, even as `null`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    fn find(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).or_else(|| {
            self.map
                .iter()
                .find(|(other, _)| other.eq_ignore_ascii_case(key))
                .map(|(_, value)| value)
        })
    }

    /// What the key has, unless that is `null`.
    pub(super) fn get(&self, key: &str) -> Option<Item<'a>> {
        let value = self.find(key).filter(|value| !value.is_null())?;
        Some(Item { value, path: self.path(key) })
    }

    /// The same of texts; an empty one is none.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        let text = self.get(key).map(|item| item.text()).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(&self, key: &str) -> Result<Option<T>> {
        match self.text(key)? {
            None => Ok(None),
            Some(_) => self.get(key).map(|item| item.parsed()).transpose(),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        let flag = |item: Item<'_>| {
            item.value.as_bool().ok_or_else(|| item.wrong("it should be true or false"))
        };
        self.get(key).map(flag).transpose()
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<u64>> {
        let number = |item: Item<'_>| {
            item.value
                .as_u64()
                .ok_or_else(|| item.wrong("it should be a number that is not negative"))
        };
        self.get(key).map(number).transpose()
    }

    pub(super) fn object(&self, key: &str) -> Result<Option<Self>> {
        self.get(key).map(Item::object).transpose()
    }

    pub(super) fn list(&self, key: &str) -> Result<Vec<Item<'a>>> {
        self.get(key).map_or_else(|| Ok(Vec::new()), |item| item.list())
    }

    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>> {
        let texts = self.list(key)?;
        texts.iter().map(|item| item.text().map(str::to_owned)).collect()
    }
}
