"""Ways of adapting that need a workstation. Nothing here is imported on a device."""
