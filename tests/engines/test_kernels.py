"Eight-bit layers: as near as they claim to be, whatever the processor, the rows and the numbers."
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from z1.engines.kernels import Int8Linear, LEVELS


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 70), st.integers(1, 50), st.booleans(), st.sampled_from([1e-6, 1.0, 1e4]),
       st.integers(0, 10**6))
def test_a_row_is_within_its_rounding_and_knows_no_neighbours(rows, width, out, bias, size, seed):
    torch.manual_seed(seed)
    linear, x = nn.Linear(width, out, bias), torch.randn(rows, width) * size
    x[0] = 0                                                        # a row of zeros has no scale
    with torch.no_grad():
        layer = Int8Linear(linear)
        found, wanted = layer(x), linear(x)
        each = torch.cat([layer(x[i:i + 1]) for i in range(rows)])
    assert torch.equal(found, each)
    weight, most = linear.weight.abs(), x.abs().amax(1, keepdim=True)
    rounding = most * weight.sum(1) / LEVELS / 2 + x.abs().sum(1, keepdim=True) * weight.amax(1) / 127  # of each kind
    assert ((found - wanted).abs() <= rounding * 1.01 + 1e-6 * (1 + size)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shape_and_number_format_are_those_of_the_input(dtype):
    x = torch.randn(2, 3, 16).to(dtype)
    with torch.no_grad(): found = Int8Linear(nn.Linear(16, 8).to(dtype))(x)
    assert found.shape == (2, 3, 8) and found.dtype == dtype


OLD = """
import torch
torch.cpu._is_vnni_supported = lambda: False
from z1.engines.kernels import Int8Linear, LEVELS
linear = torch.nn.Linear(896, 64, bias=False)
for sign in (1, -1):
    linear.weight.data.fill_(0.02 * sign)                           # all products as large as they get, and of one sign
    for x in (torch.ones(4, 896), -torch.ones(4, 896)):
        with torch.no_grad(): assert torch.allclose(Int8Linear(linear)(x), linear(x), rtol=1e-3), (sign, LEVELS)
print("fine", LEVELS)
"""


def test_sums_are_not_cut_off_on_an_older_processor():
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", OLD], env=env, capture_output=True, text=True)
    assert done.stdout == "fine 63\n", done.stderr
