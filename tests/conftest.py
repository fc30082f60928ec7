import torch

torch.set_num_threads(1)  # many small tests on few cores: threads would only wait for each other
