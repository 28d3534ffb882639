"""U-Net Identity Finetune: what the concept looks like."""
