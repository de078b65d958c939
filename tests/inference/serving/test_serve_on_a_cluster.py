"""The service on a Ray cluster that exists already, of two node processes."""

from __future__ import annotations

import pytest
from ase.build import bulk
from tiny_checkpoint import save_tiny

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.calculators.remote import RemoteCalculator
from adatom.core.errors import ConfigError
from adatom.inference.serving.deployment import ServiceOptions
from adatom.inference.serving.errors import ServiceError
from adatom.inference.serving.server import Server

ray = pytest.importorskip("ray")
pytest.importorskip("ray.serve", exc_type=ImportError)

TOKEN = "only-for-this-test-0123456789"


@pytest.fixture
def cluster(monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_register_timeout_seconds", "300")
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0})
    nodes.add_node(num_cpus=1, num_gpus=0)
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.mark.slow
def test_one_replica_per_node_behind_one_address(cluster, tmp_path, free_port):
    checkpoint = tmp_path / "tiny.safetensors"
    save_tiny(checkpoint)
    atoms = bulk("Cu", a=3.7) * 2
    expected = MLIPCalculator(str(checkpoint)).get_property("energy", atoms)
    models = {"tiny": str(checkpoint)}
    with pytest.raises(ConfigError, match="others may reach the service"):
        Server(models, ServiceOptions(), port=free_port).connect()
    server = Server(models, ServiceOptions(token=TOKEN), port=free_port, replicas=2)
    server.connect()
    try:
        server.start()
        calc = RemoteCalculator(server.url, token=TOKEN)
        for _ in range(8):
            calc.reset()
            assert calc.get_property("energy", atoms) == pytest.approx(expected, abs=1e-6)
        with pytest.raises(ServiceError, match="token is missing or wrong"):
            RemoteCalculator(server.url, token=TOKEN[::-1]).get_property("energy", atoms)
        # Each booked the only core of a node.
        assert ray.available_resources().get("CPU", 0) == 0
        assert server.reload() == []
    finally:
        server.stop()
    # The cluster is not the service's: it stays, with all its cores.
    assert len(cluster.list_all_nodes()) == 2
    ray.init(address=cluster.address, log_to_driver=False)
    assert ray.available_resources()["CPU"] == 2
