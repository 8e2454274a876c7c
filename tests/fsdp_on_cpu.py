"""Real FSDP2 sharding on the CPU, for tests alone: `torchrun --nproc_per_node 2 tests/fsdp_on_cpu.py job.json`.

accelerate shards on accelerators only and falls back to copies on a CPU. Here a state that says "several CPUs" and was
given FSDP's settings is relabelled as FSDP's, as accelerate itself does for several GPUs; torch shards over gloo.
"""
import sys

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

make = AcceleratorState.__init__


def relabelled(self, *args, fsdp_plugin=None, **kwargs):
    make(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if self.distributed_type != DistributedType.MULTI_CPU: return
    if fsdp_plugin is not None:
        if self._mixed_precision != "no": fsdp_plugin.set_mixed_precision(self._mixed_precision)
        self.fsdp_plugin = fsdp_plugin
    if "fsdp_plugin" in self.__dict__: self.distributed_type = DistributedType.FSDP    # each new handle is told anew


AcceleratorState.__init__ = relabelled

if __name__ == "__main__":
    from z1.finetune import main
    main(sys.argv[1])
