"""What the account's owner keeps at the service besides tokens: profile, settings, further keys, marked generations."""

from typing import Any

from attrs import define, field


@define
class Mark:
    """What the owner did to an entry of the history."""

    is_favorited: bool = False
    user_rating: float | None = None


def _profile() -> dict[str, Any]:
    return {"name": "Example User", "avatar_url": None}


def _settings() -> dict[str, Any]:
    return {
        "language": "en",
        "image_format": "webp",
        "default_image_size": "1024x1024",
        "notifications_enabled": True,
    }


@define
class Desk:
    """The owner's own things, by ids as texts; `keys` has id, name and the key itself."""

    profile: dict[str, Any] = field(factory=_profile)
    settings: dict[str, Any] = field(factory=_settings)
    keys: dict[str, dict[str, Any]] = field(factory=dict[str, dict[str, Any]], repr=False)
    marks: dict[str, Mark] = field(factory=dict[str, Mark])
    _made: int = 0

    def make_key(self, name: str) -> dict[str, Any]:
        """Make a key, as long as real ones, and return it."""
        self._made += 1
        key = {"id": 12 + self._made, "name": name, "key": f"nb_live_{self._made:040d}"}
        self.keys[str(key["id"])] = key
        return dict(key)

    def opens(self, header: str | None) -> bool:
        """Say whether an Authorization header has one of these keys."""
        return any(header == f"Bearer {key['key']}" for key in self.keys.values())
