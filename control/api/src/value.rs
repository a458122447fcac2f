//! Reading JSON objects the way Go reads structs: absent is the zero value.

use serde_json::{Map, Value};

pub(crate) trait ValueExt {
    fn str_at(&self, pointer: &str) -> &str;
    fn i64_at(&self, pointer: &str) -> i64;
    fn opt_i64(&self, pointer: &str) -> Option<i64>;
    fn bool_at(&self, pointer: &str) -> bool;
    fn list_at(&self, pointer: &str) -> &[Value];
    fn map_at(&self, pointer: &str) -> Option<&Map<String, Value>>;
    fn has(&self, pointer: &str) -> bool;
    /// Sets `key` where it is absent (or null).
    fn default_to(&mut self, key: &str, value: impl Into<Value>);
    fn remove_key(&mut self, key: &str) -> Option<Value>;
    /// Mutable list under `key`, empty when absent.
    fn list_mut(&mut self, key: &str) -> std::slice::IterMut<'_, Value>;
    /// Sets `key` to a clone of `from`'s, or removes it when `from` has none.
    fn copy_key(&mut self, from: &Value, key: &str);
}

impl ValueExt for Value {
    fn str_at(&self, pointer: &str) -> &str {
        self.pointer(pointer).and_then(Value::as_str).unwrap_or("")
    }

    fn i64_at(&self, pointer: &str) -> i64 {
        self.opt_i64(pointer).unwrap_or(0)
    }

    fn opt_i64(&self, pointer: &str) -> Option<i64> {
        self.pointer(pointer).and_then(Value::as_i64)
    }

    fn bool_at(&self, pointer: &str) -> bool {
        self.pointer(pointer)
            .and_then(Value::as_bool)
            .unwrap_or(false)
    }

    fn list_at(&self, pointer: &str) -> &[Value] {
        self.pointer(pointer)
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    fn map_at(&self, pointer: &str) -> Option<&Map<String, Value>> {
        self.pointer(pointer).and_then(Value::as_object)
    }

    fn has(&self, pointer: &str) -> bool {
        self.pointer(pointer).is_some_and(|v| !v.is_null())
    }

    fn default_to(&mut self, key: &str, value: impl Into<Value>) {
        if let Some(object) = self.as_object_mut()
            && object.get(key).is_none_or(Value::is_null)
        {
            object.insert(key.to_string(), value.into());
        }
    }

    fn remove_key(&mut self, key: &str) -> Option<Value> {
        self.as_object_mut().and_then(|o| o.remove(key))
    }

    fn list_mut(&mut self, key: &str) -> std::slice::IterMut<'_, Value> {
        match self.get_mut(key) {
            Some(Value::Array(list)) => list.iter_mut(),
            _ => [].iter_mut(),
        }
    }

    fn copy_key(&mut self, from: &Value, key: &str) {
        match from.get(key) {
            Some(v) => {
                if let Some(object) = self.as_object_mut() {
                    object.insert(key.to_string(), v.clone());
                }
            }
            None => {
                self.remove_key(key);
            }
        }
    }
}
