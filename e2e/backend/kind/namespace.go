package kind

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cnitest/cnitest/e2e/internal/kubeapi"
)

const (
	// namespace contains everything that the backend makes in a cluster.
	namespace     = "cnitest"
	namespacePath = "/api/v1/namespaces/" + namespace
	podsPath      = namespacePath + "/pods"
	servicesPath  = namespacePath + "/services"
	eventsPath    = namespacePath + "/events"
	// ownerLabel names the program that made a namespace (kubernetes.io: recommended labels).
	ownerLabel = "app.kubernetes.io/managed-by"
	// renewedAnnotation changes every renewInterval as long as the run that made the namespace goes on.
	renewedAnnotation = "cnitest/renewed"
	renewInterval     = 5 * time.Second
	// renewPatience is the time without a change after which the run that made a namespace counts as ended. A request
	// may take half of it.
	renewPatience = 30 * time.Second
)

// namespaceState contains the fields of the API's object that are used here.
type namespaceState struct {
	Metadata struct {
		UID               string            `json:"uid"`
		Labels            map[string]string `json:"labels"`
		Annotations       map[string]string `json:"annotations"`
		DeletionTimestamp string            `json:"deletionTimestamp"`
	} `json:"metadata"`
	Status struct {
		Conditions []condition `json:"conditions"`
	} `json:"status"`
}

// remains returns the reasons why a namespace is still being deleted.
func (n *namespaceState) remains() error {
	var errs []error
	for _, c := range n.Status.Conditions {
		if c.Status == "True" {
			errs = append(errs, errors.New(c.Message))
		}
	}
	return errors.Join(errs...)
}

// claim is the namespace of a run. It shows other runs that the cluster is in use.
type claim struct {
	api  *api
	uid  string
	end  context.CancelFunc
	done chan struct{}
}

// claimNamespace makes the namespace, and first deletes one that an earlier run left. It returns an error if another
// run uses the cluster, or if another program made the namespace.
func (a *api) claimNamespace(ctx context.Context, log func(string), patience time.Duration) (*claim, error) {
	if err := a.removeLeft(ctx, log, patience); err != nil {
		return nil, err
	}
	var made namespaceState
	err := a.Create(ctx, "/api/v1/namespaces", object{"metadata": object{
		"name":        namespace,
		"labels":      object{ownerLabel: "cnitest", "pod-security.kubernetes.io/enforce": "privileged"},
		"annotations": object{renewedAnnotation: now()},
	}}, &made)
	if kubeapi.IsStatus(err, http.StatusConflict) {
		return nil, errInUse
	}
	if err != nil {
		return nil, err
	}
	renewing, end := context.WithCancel(context.Background())
	c := &claim{api: a, uid: made.Metadata.UID, end: end, done: make(chan struct{})}
	go c.renew(renewing)
	return c, nil
}

// errInUse is the reason why a second run does not start.
var errInUse = errors.New("another run uses the cluster (its namespace " + namespace +
	" is renewed); want it to end first")

func now() string { return time.Now().UTC().Format(time.RFC3339Nano) }

// removeLeft deletes the namespace of a run that ended without deleting it. It recognises a running run by changes of
// the annotation and not by their times, since the clocks of two machines may differ.
func (a *api) removeLeft(ctx context.Context, log func(string), patience time.Duration) error {
	var found namespaceState
	err := a.Get(ctx, namespacePath, &found)
	if kubeapi.IsStatus(err, http.StatusNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if found.Metadata.Labels[ownerLabel] != "cnitest" {
		return fmt.Errorf("the cluster has a namespace %s that this program did not make (want the label %s=cnitest); "+
			"if nothing in it is needed: kubectl delete namespace %s", namespace, ownerLabel, namespace)
	}
	if found.Metadata.DeletionTimestamp == "" {
		log(fmt.Sprintf("namespace %s is there: waiting %s to see whether its run goes on", namespace, patience))
	}
	uid, renewed := found.Metadata.UID, found.Metadata.Annotations[renewedAnnotation]
	for end := time.Now().Add(patience); found.Metadata.DeletionTimestamp == "" && time.Now().Before(end); {
		if err := wait(ctx, pollInterval); err != nil {
			return err
		}
		found = namespaceState{}
		if err := a.Get(ctx, namespacePath, &found); kubeapi.IsStatus(err, http.StatusNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		if found.Metadata.UID != uid || found.Metadata.Annotations[renewedAnnotation] != renewed {
			return errInUse
		}
	}
	return a.deleteNamespace(ctx, uid)
}

// renew changes the annotation while the run goes on. It names the uid, so that it does not change the namespace of
// another run.
func (c *claim) renew(ctx context.Context) {
	defer close(c.done)
	for wait(ctx, renewInterval) == nil {
		_ = c.api.Patch(ctx, namespacePath, object{
			"metadata": object{"uid": c.uid, "annotations": object{renewedAnnotation: now()}},
		})
	}
}

// release deletes the namespace and everything in it.
func (c *claim) release(ctx context.Context) error {
	c.end()
	<-c.done
	return c.api.deleteNamespace(ctx, c.uid)
}

// deleteNamespace deletes the namespace with a uid and waits until it is gone. Its error names what is left.
func (a *api) deleteNamespace(ctx context.Context, uid string) error {
	options := object{"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": object{"uid": uid}}
	err := a.Do(ctx, http.MethodDelete, namespacePath, options, nil)
	// A conflict means that the namespace has another uid and belongs to another run.
	if err != nil && !kubeapi.IsStatus(err, http.StatusNotFound) && !kubeapi.IsStatus(err, http.StatusConflict) {
		return err
	}
	return until(ctx, time.Minute, "namespace "+namespace+" to go away", func() (bool, error) {
		var found namespaceState
		err := a.Get(ctx, namespacePath, &found)
		if kubeapi.IsStatus(err, http.StatusNotFound) || err == nil && found.Metadata.UID != uid {
			return true, nil
		}
		return false, errors.Join(err, found.remains())
	})
}

// usable waits for the namespace's service account: without it no pod is accepted.
func (c *claim) usable(ctx context.Context) error {
	return until(ctx, time.Minute, "service account of namespace "+namespace, func() (bool, error) {
		err := c.api.Get(ctx, namespacePath+"/serviceaccounts/default", nil)
		if kubeapi.IsStatus(err, http.StatusNotFound) {
			return false, nil
		}
		return err == nil, err
	})
}
