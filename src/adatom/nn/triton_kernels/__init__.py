"""Kernels in Triton for edge tiles on a GPU; importing a module of this folder imports Triton.

None of them uses atomic operations: each output number is written by one program, so that results
do not change from run to run. Each is compared with plain PyTorch under Triton's interpreter and
compiled for GPUs of compute capability 8.0 and 9.0; none has been run on a GPU yet.
"""
