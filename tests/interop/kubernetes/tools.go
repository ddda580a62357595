//go:build tools

// Package kubernetes pins the API server that the interop tests talk to: it is built from these modules.
package kubernetes

import _ "k8s.io/kubernetes/cmd/kube-apiserver"
