// Package kubernetes has what a Kubernetes API in a lab needs: the command lines of etcd and of an API server, a
// kubeconfig for plugins, and a client that adds custom resource definitions and clears away what plugins stored.
//
// There are no controllers and no kubelets: an object stays as a plugin wrote it.
//
// Run its tests: go test ./e2e/lab/kubernetes
package kubernetes

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path"
)

// The programs of an API, by the names that their own builds give them.
const (
	Etcd      = "etcd"
	APIServer = "kube-apiserver"
)

// Address is where the API server listens.
const Address = "127.0.0.1:6443"

// API says how an API server and its etcd are started, in a network namespace of their own.
type API struct {
	// Dir is a directory for all their files, which exists and is empty.
	Dir string
	// Token is the bearer token of the only user, who may do everything.
	Token string
}

// New returns an API with a new token.
func New(dir string) API { return API{Dir: dir, Token: rand.Text()} }

// File is a file that must be written before the programs start.
type File struct {
	Path string
	Data []byte
}

// Files returns the files that the API server reads: its users, and the key for service accounts, which it wants
// although nobody has one here.
func (a API) Files() ([]File, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return []File{
		{a.users(), []byte(a.Token + ",cnitest,cnitest,system:masters\n")},
		{a.key(), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})},
	}, nil
}

func (a API) users() string { return path.Join(a.Dir, "users.csv") }
func (a API) key() string   { return path.Join(a.Dir, "service-accounts.key") }

// EtcdCommand returns the command line of etcd. It does not wait for a disk: nothing outlives the lab.
func (a API) EtcdCommand() []string {
	const clients, peers = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	return []string{
		Etcd, "--data-dir", path.Join(a.Dir, "etcd"), "--unsafe-no-fsync", "--log-level", "error",
		"--listen-client-urls", clients, "--advertise-client-urls", clients,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "default=" + peers,
	}
}

// APIServerCommand returns the command line of the API server. It makes its own certificate.
func (a API) APIServerCommand() []string {
	return []string{
		APIServer, "--etcd-servers", "http://127.0.0.1:2379", "--bind-address", "127.0.0.1", "--secure-port", "6443",
		// An address of a documentation network: without a default route it finds none to advertise.
		"--advertise-address", "192.0.2.1", "--endpoint-reconciler-type", "none",
		"--cert-dir", path.Join(a.Dir, "certificates"), "--token-auth-file", a.users(),
		"--authorization-mode", "AlwaysAllow", "--disable-admission-plugins", "ServiceAccount",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", a.key(),
		"--service-account-signing-key-file", a.key(), "--service-cluster-ip-range", "10.96.0.0/16",
		"--profiling=false",
	}
}

// Kubeconfig returns the file with which a plugin finds the API at an address of its node. Its namespace is
// kube-system, as of the service accounts that plugins' DaemonSets have.
func (a API) Kubeconfig(address string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: cnitest
  cluster: {server: "https://%s", insecure-skip-tls-verify: true}
users:
- name: cnitest
  user: {token: %s}
contexts:
- name: cnitest
  context: {cluster: cnitest, user: cnitest, namespace: kube-system}
current-context: cnitest
`, address, a.Token)
}
