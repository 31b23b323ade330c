import torch

torch.set_num_threads(1)  # tensors are tiny here, and threads that wait for a busy machine cost more than they give
