"""AlexNet on ImageNet: from raw pictures to a table of the 2012 paper's every number beside the measured one."""
