package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Who may make each call of the server's, by SPIRE's policy.
var callers = map[string]string{
	"Agent/CountAgents":     "admin local",
	"Agent/ListAgents":      "admin local",
	"Agent/GetAgent":        "admin local",
	"Agent/DeleteAgent":     "admin local",
	"Agent/BanAgent":        "admin local",
	"Agent/AttestAgent":     "any",
	"Agent/RenewAgent":      "agent",
	"Agent/CreateJoinToken": "admin local",
	"Agent/PostStatus":      "agent",

	"Bundle/CountBundles":               "admin local",
	"Bundle/GetBundle":                  "any",
	"Bundle/AppendBundle":               "admin local",
	"Bundle/PublishJWTAuthority":        "downstream",
	"Bundle/ListFederatedBundles":       "admin local",
	"Bundle/GetFederatedBundle":         "admin agent local",
	"Bundle/BatchCreateFederatedBundle": "admin local",
	"Bundle/BatchUpdateFederatedBundle": "admin local",
	"Bundle/BatchSetFederatedBundle":    "admin local",
	"Bundle/BatchDeleteFederatedBundle": "admin local",

	"Debug/GetInfo":          "local",
	"Logger/GetLogger":       "local",
	"Logger/SetLogLevel":     "local",
	"Logger/ResetLogLevel":   "local",
	"Health/Check":           "local",
	"Health/Watch":           "local",
	"Entry/CountEntries":     "admin local",
	"Entry/ListEntries":      "admin local",
	"Entry/GetEntry":         "admin local",
	"Entry/BatchCreateEntry": "admin local",
	"Entry/BatchUpdateEntry": "admin local",
	"Entry/BatchDeleteEntry": "admin local",

	"Entry/GetAuthorizedEntries":  "agent",
	"Entry/SyncAuthorizedEntries": "agent",

	"LocalAuthority/GetJWTAuthorityState":        "admin local",
	"LocalAuthority/PrepareJWTAuthority":         "admin local",
	"LocalAuthority/ActivateJWTAuthority":        "admin local",
	"LocalAuthority/TaintJWTAuthority":           "admin local",
	"LocalAuthority/RevokeJWTAuthority":          "admin local",
	"LocalAuthority/GetX509AuthorityState":       "admin local",
	"LocalAuthority/PrepareX509Authority":        "admin local",
	"LocalAuthority/ActivateX509Authority":       "admin local",
	"LocalAuthority/TaintX509Authority":          "admin local",
	"LocalAuthority/TaintX509UpstreamAuthority":  "admin local",
	"LocalAuthority/RevokeX509Authority":         "admin local",
	"LocalAuthority/RevokeX509UpstreamAuthority": "admin local",

	"SVID/MintX509SVID":        "admin local",
	"SVID/MintJWTSVID":         "admin local",
	"SVID/BatchNewX509SVID":    "agent",
	"SVID/NewJWTSVID":          "agent",
	"SVID/NewDownstreamX509CA": "downstream",

	"TrustDomain/ListFederationRelationships":       "admin local",
	"TrustDomain/GetFederationRelationship":         "admin local",
	"TrustDomain/BatchCreateFederationRelationship": "admin local",
	"TrustDomain/BatchUpdateFederationRelationship": "admin local",
	"TrustDomain/BatchDeleteFederationRelationship": "admin local",
	"TrustDomain/RefreshBundle":                     "admin local",
}

// matrix asks by every call as every caller (spire-api.md §2): whoever may not is refused in one form,
// and whoever may is refused, if at all, for what is asked.
func matrix(s *Site) {
	var calls []string
	for call := range callers {
		calls = append(calls, call)
	}
	slices.Sort(calls)
	for _, call := range calls {
		may := strings.Fields(callers[call])
		agents := slices.Contains(may, "agent")
		for _, as := range []*Client{s.local, s.anybody, s.agent, s.admin, s.downstream, s.plain} {
			name := as.name
			if call == "Agent/AttestAgent" && as != s.anybody && as != s.local {
				// One a second from each address: conversations asks the rest.
				continue
			}
			reply := as.ask(call, J{})
			if slices.Contains(may, name) || may[0] == "any" {
				reply.same("may call", true, reply.code != PermissionDenied)
				continue
			}
			want := Want{code: PermissionDenied, text: "=authorization denied for method /" + reply.call}
			if agents && as != s.local && as != s.anybody {
				// Only the test for agents tells more: these are no nodes.
				want.reason = "AGENT_NOT_ATTESTED"
			}
			reply.want("may not call", want)
		}
	}
	for _, as := range []*Client{s.local, s.anybody, s.agent} {
		as.no("ServerReflection/ServerReflectionInfo", "no reflection", J{"list_services": ""}, Unimplemented, "")
	}
	told, err := os.Stat(filepath.Join(s.folder, "authority.sock"))
	check(err)
	s.local.ok("Bundle/GetBundle", "the socket is there", J{}).
		same("mode of the socket", "0770", "0"+modeOf(told))
}
