"""The public names of edgewake.assets, for `lazy_loader` and for type checkers."""

from .catalogue import Asset as Asset
from .catalogue import AssetFile as AssetFile
from .store import MissingAssetError as MissingAssetError
from .store import asset_path as asset_path
from .store import get_asset as get_asset
from .store import list_assets as list_assets

__all__ = ["Asset", "AssetFile", "MissingAssetError", "asset_path", "get_asset", "list_assets"]
