package kubernetes

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/cnitest/cnitest/e2e/internal/kubeapi"
)

// Client sends requests to an API server. Its methods may be called concurrently.
type Client struct{ api kubeapi.Client }

// NewClient returns a client for an API whose server dial connects to.
func NewClient(api API, dial func(context.Context) (net.Conn, error)) *Client {
	return &Client{kubeapi.Client{URL: "https://" + Address, Token: api.Token, HTTP: &http.Client{
		Timeout: time.Minute, Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
			// The server makes a certificate for itself, and nobody else is in its namespace.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
		},
	}}}
}

// Close closes the client's connections.
func (c *Client) Close() { c.api.HTTP.CloseIdleConnections() }

// Ready returns nil when the server has everything that it starts with (kubernetes.io, "Kubernetes API health
// endpoints").
func (c *Client) Ready(ctx context.Context) error {
	return c.api.Get(ctx, "/readyz", nil)
}

const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

// Define adds a custom resource definition and waits until its objects can be stored.
func (c *Client) Define(ctx context.Context, d Definition) error {
	if err := c.api.Create(ctx, definitions, d, nil); err != nil {
		return fmt.Errorf("%s: %w", d.Name(), err)
	}
	for {
		var now resource
		if err := c.api.Get(ctx, definitions+"/"+d.Name(), &now); err != nil {
			return err
		}
		for _, condition := range now.Status.Conditions {
			// Its handler serves a moment after the condition; a list shows when (apiextensions, "Established").
			if condition.Type == "Established" && condition.Status == "True" &&
				c.api.Get(ctx, now.path(""), nil) == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not established: %w", d.Name(), context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// resource is the part of a custom resource definition that says where its objects are.
type resource struct {
	Spec struct {
		Group string `json:"group"`
		Scope string `json:"scope"`
		Names struct {
			Plural string `json:"plural"`
		} `json:"names"`
		Versions []struct {
			Name   string `json:"name"`
			Served bool   `json:"served"`
		} `json:"versions"`
	} `json:"spec"`
	Status struct {
		Conditions []struct{ Type, Status string } `json:"conditions"`
	} `json:"status"`
}

// path returns the path of all objects, or of those of a namespace.
func (r resource) path(namespace string) string {
	version := ""
	for _, v := range r.Spec.Versions {
		if v.Served {
			version = v.Name
			break
		}
	}
	prefix := fmt.Sprintf("/apis/%s/%s/", r.Spec.Group, version)
	if namespace != "" {
		prefix += "namespaces/" + namespace + "/"
	}
	return prefix + r.Spec.Names.Plural
}

// objects is a list of any kind.
type objects struct {
	Items []struct {
		Metadata struct {
			Name      string            `json:"name"`
			Namespace string            `json:"namespace"`
			Labels    map[string]string `json:"labels"`
		} `json:"metadata"`
	} `json:"items"`
}

// Clear deletes all objects that plugins store: custom resources, and the leases with which they choose a leader. It
// may be repeated.
func (c *Client) Clear(ctx context.Context) error {
	var list struct {
		Items []resource `json:"items"`
	}
	if err := c.api.Get(ctx, definitions, &list); err != nil {
		return err
	}
	for _, r := range list.Items {
		if err := c.clear(ctx, r.path); err != nil {
			return err
		}
	}
	return c.clear(ctx, func(namespace string) string {
		if namespace == "" {
			return "/apis/coordination.k8s.io/v1/leases"
		}
		return "/apis/coordination.k8s.io/v1/namespaces/" + namespace + "/leases"
	})
}

// serverLabel is on the lease of an API server.
const serverLabel = "apiserver.kubernetes.io/identity"

// clear deletes the objects at a path, which depends on the namespace.
func (c *Client) clear(ctx context.Context, at func(namespace string) string) error {
	var list objects
	if err := c.api.Get(ctx, at(""), &list); err != nil {
		return err
	}
	for _, item := range list.Items {
		if _, own := item.Metadata.Labels[serverLabel]; own {
			continue
		}
		if err := c.api.Remove(ctx, at(item.Metadata.Namespace)+"/"+item.Metadata.Name); err != nil {
			return err
		}
	}
	return nil
}
