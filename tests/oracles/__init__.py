"""Independent implementations with the same weights. Nothing here imports the pack or ComfyUI."""
