"""The one image transform that preparing and predicting share."""
