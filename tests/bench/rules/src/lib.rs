//! The netfilter rules that kube-proxy lays for Services, made without kube-proxy.
