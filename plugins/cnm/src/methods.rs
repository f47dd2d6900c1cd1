//! The list of all methods, for those who go through all of them.

/// Calls `$each!` once for every method with its parameters' type.
#[macro_export]
macro_rules! for_each_call {
    ($each:ident) => {
        $each! {
            $crate::system::GetVersion,
            $crate::system::GetStatus,
            $crate::system::Reconcile,
            $crate::system::CollectGarbage,
            $crate::network::CreateNetwork,
            $crate::network::ListNetworks,
            $crate::network::InspectNetwork,
            $crate::network::UpdateNetwork,
            $crate::network::RemoveNetwork,
            $crate::network::PruneNetworks,
            $crate::endpoint::Attach,
            $crate::endpoint::UpdateEndpoint,
            $crate::endpoint::Detach,
            $crate::endpoint::CheckEndpoint,
            $crate::endpoint::ListEndpoints,
            $crate::endpoint::InspectEndpoint,
            $crate::sandbox::CreateSandbox,
            $crate::sandbox::ListSandboxes,
            $crate::sandbox::RemoveSandbox,
            $crate::ipam::ListPools,
            $crate::dns::QueryName,
            $crate::dns::LogQueries,
            $crate::events::Subscribe,
            $crate::cluster::InitCluster,
            $crate::cluster::JoinCluster,
            $crate::cluster::LeaveCluster,
            $crate::cluster::GetCluster,
            $crate::cluster::CreateToken,
            $crate::cluster::ListTokens,
            $crate::cluster::RotateToken,
            $crate::cluster::RemoveToken,
            $crate::cluster::ListNodes,
            $crate::cluster::UpdateNode,
            $crate::cluster::RemoveNode,
            $crate::driver::GetInfo,
            $crate::driver::NetworkUp,
            $crate::driver::NetworkDown,
            $crate::driver::AttachEndpoint,
            $crate::driver::DetachEndpoint,
            $crate::driver::CheckAttached,
            $crate::driver::PlanEndpoint,
            $crate::driver::Sync,
            $crate::driver::Uninstall,
            $crate::peers::ChangePeers,
        }
    };
}
