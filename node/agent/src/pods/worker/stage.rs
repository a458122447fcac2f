//! Where a pod is on its way: running, ending, over.

/// What the worker does for the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It shall run.
    Running,
    /// Its containers are stopped, its network and sandbox taken down.
    Ending,
    /// Nothing of it runs; its volumes are taken away, and all traces of one
    /// that is deleted.
    Cleaning,
    /// Nothing is left to do until it is deleted.
    Over,
    /// Its API object goes.
    Deleting,
    /// The worker is done.
    Gone,
}
