package sekisho.authz

default allow := false

allow if input.sekisho.client.trust_domain == "hokkaido.example"
