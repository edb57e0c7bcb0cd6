"""Who asks, what they may, and how often: API keys with scopes and rates."""

from web.auth.credentials import presented_key
from web.auth.keys import Keys, KeyStore, admin_key
from web.auth.principal import Principal, Scope
from web.auth.rates import Failures, Rates

__all__ = ["Failures", "KeyStore", "Keys", "Principal", "Rates", "Scope", "admin_key", "presented_key"]
