"""What an access token is, said once for all three that must agree about it: identity issues it, the gateway checks
it, every instance checks it again (RFC 9068, RFC 7519).

Nothing here verifies: the gateway's half is compiled into Envoy, the instances' is `svc.chassis.tokens`.
"""

import re
from typing import Final

ISSUER: Final = "weft-identity"
AUDIENCE: Final = "weft"
TYPE: Final = "at+jwt"
ALGORITHM: Final = "ES256"
#: The fields of a token's header: no more and no fewer. Whatever else a header may say (`crit`, `jku`, `x5u`, `jwk`,
#: `b64`) is nothing that anybody here would follow.
HEADER: Final = ("alg", "kid", "typ")

#: Seconds by which the clocks of identity, gateway and instances may differ.
SKEW_S: Final = 5
#: The longest life of a token, in seconds. Short, because a gateway cannot know that a session has ended.
LIFETIME_S: Final = 300
#: The longest token. Ours are below 1 KB; the gateway takes 16 KB of headers in all.
CHARS_MAX: Final = 4096

#: How a call carries it: exactly so, once, and one space.
SCHEME: Final = "Bearer "

#: Beside ASCII letters and digits, what identity claims are made of: `sub`, `act.sub`, `sid`, `jti`, `kid`. None of it
#: means anything in a header, a log line, a path, SQL or HTML.
ID_MARKS: Final = "-_"
ID_CHARS_MAX: Final = 64
ID: Final = re.compile(rf"[A-Za-z0-9{re.escape(ID_MARKS)}]{{1,{ID_CHARS_MAX}}}")
#: One scope: lower case, with at least one dot. In the claim they are divided by single spaces (RFC 6749, 3.3).
SCOPE: Final = re.compile(r"[a-z][a-z0-9]*(\.[a-z][a-z0-9]*)+")
