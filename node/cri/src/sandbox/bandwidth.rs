//! How fast a sandbox may receive and send: kubelets hand the annotations of pods on.

use std::collections::HashMap;

use tonic::Status;
use vetch_network::Bandwidth;

pub fn bandwidth(annotations: &HashMap<String, String>) -> Result<Bandwidth, Status> {
    let find = |key: &str| annotations.get(key).map(String::as_str);
    Bandwidth::of_annotations(find).map_err(|error| Status::invalid_argument(error.to_string()))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn by_the_annotations_of_pods() {
        let of = |key: &str, value: &str| {
            let pair = (format!("kubernetes.io/{key}"), value.to_owned());
            bandwidth(&HashMap::from([pair]))
        };
        let slow = of("ingress-bandwidth", "10M").unwrap();
        assert_eq!((slow.ingress, slow.egress), (Some(10_000_000), None));
        let slow = of("egress-bandwidth", "1k").unwrap();
        assert_eq!((slow.ingress, slow.egress), (None, Some(1000)));
        assert_eq!(of("other", "10M").unwrap(), Bandwidth::default());
        let refused = of("egress-bandwidth", "fast").unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
}
