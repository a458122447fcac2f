//! The Container Runtime Interface's messages and calls, by the `.proto` files beside: those of
//! Kubernetes 1.36. The crate `k8s-cri` is of an earlier one, and what a client says in a field that is not
//! in a message is gone unseen.

pub mod v1 {
    #![allow(
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::large_enum_variant,
        deprecated,
        reason = "generated"
    )]
    tonic::include_proto!("runtime.v1");
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::v1::{KeyValue, Mount};

    /// The numbers are the interface's: bytes as another implementation writes them.
    #[test]
    fn messages_on_the_wire() {
        let mount = Mount {
            container_path: "/c".into(),
            readonly: true,
            image_sub_path: "etc".into(),
            ..Mount::default()
        };
        assert_eq!(mount.encode_to_vec(), b"\x0a\x02/c\x18\x01\x52\x03etc");
        let pair = KeyValue::decode(&b"\x0a\x01k\x12\x02\xff\x00"[..]).unwrap();
        assert_eq!((pair.key.as_str(), &pair.value[..]), ("k", &b"\xff\0"[..]));
    }
}
