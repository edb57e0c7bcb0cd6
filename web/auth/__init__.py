"""Who asks, what they may, and how often: users, keys, tokens, tickets and rates behind one `Identity`."""

from web.auth.documents import CredentialDocuments
from web.auth.identity import Identity, ticket_in
from web.auth.keys import Keys, admin_key
from web.auth.principal import Principal, Scope
from web.auth.rates import Failures, Rates
from web.auth.signing import SigningKeys, read_signing_keys, rotate_signing_keys

__all__ = [
    "CredentialDocuments", "Failures", "Identity", "Keys", "Principal", "Rates", "Scope", "SigningKeys", "admin_key",
    "read_signing_keys", "rotate_signing_keys", "ticket_in",
]  # fmt: skip
