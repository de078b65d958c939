"""The eSCN-MD backbone with frozen weights as a kernel that this machine's compiler builds."""
