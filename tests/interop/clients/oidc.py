"""PyJWT as a relying party: verifies a token by nothing but its issuer (OpenID Connect Discovery 1.0 §4),
and prints its claims, or what is wrong, as one line of JSON.

    oidc.py ISSUER CA_FILE AUDIENCE TOKEN
"""

import json
import ssl
import sys
import urllib.request

import jwt

issuer, ca_file, audience, token = sys.argv[1:]
context = ssl.create_default_context(cafile=ca_file)

url = f"{issuer}/.well-known/openid-configuration"
with urllib.request.urlopen(url, context=context) as answer:
    document = json.load(answer)
assert document["issuer"] == issuer, document

try:
    keys = jwt.PyJWKClient(document["jwks_uri"], ssl_context=context)
    claims = jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token),
        algorithms=document["id_token_signing_alg_values_supported"],
        audience=audience,
        issuer=document["issuer"],
        options={"require": ["exp", "iat", "iss", "sub", "aud"]},
    )
    print(json.dumps({"claims": claims}), flush=True)
except jwt.PyJWTError as error:
    print(json.dumps({"refused": type(error).__name__}), flush=True)
