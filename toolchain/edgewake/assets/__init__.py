"""Pretrained weights by name: fetched from where they can be had, verified, and never needed to start."""

from __future__ import annotations

from edgewake.lazy import lazy

__all__ = ["Asset", "AssetFile", "MissingAssetError", "asset_path", "get_asset", "list_assets"]

__getattr__ = lazy(
    __name__,
    {
        "Asset": "edgewake.assets.catalogue",
        "AssetFile": "edgewake.assets.catalogue",
        "MissingAssetError": "edgewake.assets.store",
        "asset_path": "edgewake.assets.store",
        "get_asset": "edgewake.assets.store",
        "list_assets": "edgewake.assets.store",
    },
)
