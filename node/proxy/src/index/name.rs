//! What an object is called.

use std::{fmt, sync::Arc};

use kube::Resource;

/// Namespace and name. Cheap to clone: tens of thousands are kept, most of
/// them in several places.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(Arc<str>);

/// What no name of Kubernetes contains.
const SEPARATOR: char = '/';

impl ObjectName {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}{SEPARATOR}{name}").into())
    }

    pub(super) fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
        Self::new(namespace.unwrap_or_default(), name.unwrap_or_default())
    }

    pub fn namespace(&self) -> &str {
        self.parts().0
    }

    pub fn name(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once(SEPARATOR).unwrap_or_default()
    }
}

/// Comes before every object's.
impl Default for ObjectName {
    fn default() -> Self {
        Self("".into())
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_it_was_made_of() {
        for (namespace, name) in [("ns", "web"), ("", "node-1"), ("kube-system", "a.b")] {
            let object = ObjectName::new(namespace, name);
            assert_eq!((object.namespace(), object.name()), (namespace, name));
            assert_eq!(object.to_string(), format!("{namespace}/{name}"));
            assert!(ObjectName::default() < object);
        }
        assert_ne!(ObjectName::new("a", "b-c"), ObjectName::new("a-b", "c"));
    }
}
