//! placeholder
use k8s_cri::v1::*;
use tonic::Status;
use crate::Cri;
use crate::error::unsupported;
impl Cri {
    pub async fn exec_url(&self, _: ExecRequest) -> Result<String, Status> { Err(unsupported("exec is")) }
    pub async fn attach_url(&self, _: AttachRequest) -> Result<String, Status> { Err(unsupported("exec is")) }
    pub async fn port_forward_url(&self, _: PortForwardRequest) -> Result<String, Status> { Err(unsupported("exec is")) }
}
