//! Labels and taints, as they are given to the daemon and to `join`.

use k8s_openapi::api::core::v1::Taint;

/// The API server checks the rest.
pub fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is key=value".into()),
    }
}

/// `key=value:Effect` or `key:Effect`, as kubectl and the kubelet have it.
pub fn taint(text: &str) -> Result<Taint, String> {
    let wrong = || {
        "a taint is key=value:Effect, where Effect is NoSchedule, PreferNoSchedule or NoExecute"
            .to_owned()
    };
    let (what, effect) = text.rsplit_once(':').ok_or_else(wrong)?;
    let (key, value) = match what.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (what, None),
    };
    let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    if key.is_empty() || !known.contains(&effect) {
        return Err(wrong());
    }
    Ok(Taint {
        key: key.to_owned(),
        value: value.filter(|value| !value.is_empty()),
        effect: effect.to_owned(),
        time_added: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taint_has_an_effect_and_maybe_a_value() {
        let read = |text: &str| taint(text).map(|taint| (taint.key, taint.value, taint.effect));
        let effect = || "NoExecute".to_owned();
        assert_eq!(
            read("k=v:NoExecute"),
            Ok(("k".into(), Some("v".into()), effect()))
        );
        assert_eq!(read("k=:NoExecute"), Ok(("k".into(), None, effect())));
        assert_eq!(read("k:NoExecute"), Ok(("k".into(), None, effect())));
        for bad in ["k", "k=v", ":NoSchedule", "k=v:Sometimes"] {
            assert!(taint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_label_has_a_value_which_may_be_empty() {
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(label("a="), Ok(("a".into(), String::new())));
        for bad in ["a", "=b", ""] {
            assert!(label(bad).is_err(), "{bad}");
        }
    }
}
