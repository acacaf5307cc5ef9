package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/cloud"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/monitor"
)

const (
	// cloudTimeout bounds one look at the cloud.
	cloudTimeout = 30 * time.Second
	// settleTime is how long changes are collected before the cloud is asked for more or fewer addresses.
	settleTime = time.Second
)

// follow follows the cloud, every so often, and the use of the addresses, until ctx ends.
func (d *daemon) follow(ctx context.Context) {
	ticker := time.NewTicker(d.cfg.Reconcile)
	defer ticker.Stop()
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.changed:
			if d.cfg.Cloud == cloudEC2 && settled == nil {
				settled = time.After(settleTime)
			}
			continue
		case <-settled:
			settled = nil
		case <-ticker.C:
		}
		if err := d.reconcile(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("not reconciled", "error", err)
		}
	}
}

// reconcile makes the node and the store follow the cloud, and the cloud the use of the store. After an error all is as
// it was: pods keep what they have.
func (d *daemon) reconcile(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cloudTimeout)
	defer cancel()
	inv, err := d.cloud.Inventory(ctx)
	if err == nil {
		err = d.apply(inv)
	}
	if err == nil {
		d.adjust(ctx, inv)
	}
	d.metrics.Reconciled(err)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.Reconciled = &monitor.ReconcileStatus{At: time.Now().UTC().Format(time.RFC3339)}
	if err != nil {
		d.status.Reconciled.Error = err.Error()
	}
	return err
}

// adjust has the cloud give more or fewer addresses. Where it refuses, pods still get those that there are.
func (d *daemon) adjust(ctx context.Context, inv cloud.Inventory) {
	adjusted, err := d.cloud.Adjust(ctx, inv, d.store)
	if adjusted {
		d.tell() // the metadata service will name what is new, and more may have to be done
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.adjustWarning = ""
	if err != nil {
		d.log.Error("addresses are not kept at hand", "error", err)
		d.adjustWarning = "addresses are not kept at hand: " + err.Error()
	}
}

// apply sets up the node for an inventory, and then lets pods have its addresses.
func (d *daemon) apply(inv cloud.Inventory) error {
	unusable := map[string]error{}
	var warnings []string
	inv.ENIs = slices.DeleteFunc(slices.Clone(inv.ENIs), func(e cloud.ENI) bool {
		if e.Card != 0 {
			unusable[e.ID] = fmt.Errorf("it is on network card %d: only card 0 is used", e.Card)
		}
		return e.Card != 0
	})
	if d.node != nil {
		result, err := d.node.Ensure(inv)
		if err != nil {
			return fmt.Errorf("node: %w", err)
		}
		maps.Copy(unusable, result.Unusable)
		warnings = result.Warnings
	}
	var enis []datastore.ENI
	for _, e := range inv.ENIs {
		forPods := d.forPods(e)
		forPods.Closed = unusable[e.ID] != nil
		enis = append(enis, forPods)
	}
	changes := d.store.Sync(enis)
	if len(changes.Added)+len(changes.Removed) > 0 {
		d.log.Info("addresses changed", "added", len(changes.Added), "removed", len(changes.Removed), "enis", len(enis))
	}
	for _, a := range changes.InUse {
		d.log.Warn("the cloud took away an address in use; it stays with its pod until that is deleted",
			"address", a.Address, "eni", a.ENI, "namespace", a.Namespace, "pod", a.Name, "container", a.ContainerID)
	}
	d.report(inv, unusable, warnings)
	return nil
}

// forPods returns the part of an ENI that pods get addresses from. With IPv6 that is a prefix of the primary ENI alone.
func (d *daemon) forPods(e cloud.ENI) datastore.ENI {
	out := datastore.ENI{ID: e.ID, Device: e.Device}
	for _, prefix := range e.Prefixes {
		if prefix.Addr().Is4() == (d.cfg.IPFamily == ipv4) && (prefix.Addr().Is4() || e.Primary()) {
			out.Prefixes = append(out.Prefixes, prefix)
		}
	}
	if d.cfg.IPFamily == ipv4 {
		out.Addresses = slices.DeleteFunc(slices.Clone(e.Secondary), netip.Addr.Is6)
	}
	return out
}

// report makes what was found visible, and logs it where it is new.
func (d *daemon) report(inv cloud.Inventory, unusable map[string]error, warnings []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	status := monitor.Status{
		InstanceID: inv.InstanceID, VPC: inv.VPC, Warnings: warnings, Reconciled: d.status.Reconciled,
	}
	for id, err := range unusable {
		status.Unusable = append(status.Unusable, monitor.UnusableENI{ID: id, Reason: err.Error()})
	}
	slices.SortFunc(status.Unusable, func(a, b monitor.UnusableENI) int { return cmp.Compare(a.ID, b.ID) })
	for _, e := range status.Unusable {
		if !slices.Contains(d.status.Unusable, e) {
			d.log.Warn("ENI is of no use for pods", "eni", e.ID, "reason", e.Reason)
		}
	}
	for _, warning := range warnings {
		if !slices.Contains(d.status.Warnings, warning) {
			d.log.Warn(warning)
		}
	}
	d.inv, d.status = inv, status
}
