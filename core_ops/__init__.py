"""The mathematics of personalization in plain torch: no ComfyUI in here, so it runs and is tested without a host."""
