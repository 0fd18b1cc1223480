"""Where backbones come from, one file per origin; `edgetl.backbone.load_backbone` chooses."""
