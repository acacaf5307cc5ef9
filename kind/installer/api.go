package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// serviceAccount is the directory with a pod's credentials for the API server (kubernetes.io: Accessing the API from
// within a pod).
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// api sends the two requests that the installer makes to the cluster's API server.
type api struct {
	client *http.Client
	url    string
	dir    string // holds the token, which kubelet renews
}

func newAPI() (*api, error) {
	ca, err := os.ReadFile(filepath.Join(serviceAccount, "ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("ca.crt has no certificate")
	}
	address := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	return &api{
		client: &http.Client{
			Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}, Timeout: 10 * time.Second,
		},
		url: "https://" + address, dir: serviceAccount,
	}, nil
}

// statusError is an answer of the API server with an unexpected status.
type statusError struct {
	path   string
	status int
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s: the API server answers %d %s", e.path, e.status, http.StatusText(e.status))
}

func (a *api) get(ctx context.Context, path string, into any) error {
	token, err := os.ReadFile(filepath.Join(a.dir, "token"))
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	reply, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		_, _ = io.Copy(io.Discard, reply.Body)
		return &statusError{path, reply.StatusCode}
	}
	return json.NewDecoder(reply.Body).Decode(into)
}

// podCIDR waits until the node has a pod CIDR and returns it. A new node has none yet, and its kube-proxy may not have
// a rule for the API server yet.
func (a *api) podCIDR(ctx context.Context, node string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		var found struct {
			Spec struct {
				PodCIDR string `json:"podCIDR"`
			} `json:"spec"`
		}
		err := a.get(ctx, "/api/v1/nodes/"+node, &found)
		if err == nil && found.Spec.PodCIDR != "" {
			return found.Spec.PodCIDR, nil
		}
		if err == nil {
			err = errors.New("it has no pod CIDR")
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("node %s: %w", node, err)
		case <-time.After(time.Second):
		}
	}
}

// deleted reports whether a DaemonSet is gone or going. `kubectl delete -k` deletes the service account and its role at
// the same time, so being denied the request also means that it is going.
func (a *api) deleted(ctx context.Context, namespace, name string) (bool, error) {
	var found struct {
		Metadata struct {
			DeletionTimestamp string `json:"deletionTimestamp"`
		} `json:"metadata"`
	}
	err := a.get(ctx, fmt.Sprintf("/apis/apps/v1/namespaces/%s/daemonsets/%s", namespace, name), &found)
	var refused *statusError
	if errors.As(err, &refused) {
		switch refused.status {
		case http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden:
			return true, nil
		}
	}
	return found.Metadata.DeletionTimestamp != "", err
}
