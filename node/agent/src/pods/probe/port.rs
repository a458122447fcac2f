//! Ports by number or by the name a container gives them.

use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// In words what is wrong with it, otherwise.
pub fn resolve(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let ports = container.ports.iter().flatten();
            let named = ports
                .filter(|port| port.name.as_deref() == Some(name))
                .map(|port| port.container_port)
                .next();
            match named.or_else(|| name.parse().ok()) {
                Some(number) => number,
                None => return Err(format!("strconv.Atoi: parsing \"{name}\": invalid syntax")),
            }
        }
    };
    match u16::try_from(number) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("invalid port number: {number}")),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ContainerPort;

    use super::*;

    #[test]
    fn numbers_and_names() {
        let container = Container {
            ports: Some(vec![ContainerPort {
                name: Some("http".into()),
                container_port: 8080,
                ..ContainerPort::default()
            }]),
            ..Container::default()
        };
        for (port, want) in [
            (IntOrString::Int(80), Some(80)),
            (IntOrString::String("http".into()), Some(8080)),
            (IntOrString::String("81".into()), Some(81)),
            (IntOrString::String("none".into()), None),
            (IntOrString::Int(0), None),
            (IntOrString::Int(70_000), None),
        ] {
            assert_eq!(resolve(&port, &container).ok(), want, "{port:?}");
        }
    }
}
