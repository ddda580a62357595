package sekisho.authz

default allow := false

allow if input.sekisho.upstream.spiffe_id == "spiffe://hokkaido.example/broker/osaka"
