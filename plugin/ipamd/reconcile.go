package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/cloud"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/monitor"
)

const (
	// cloudTimeout limits one query of the cloud.
	cloudTimeout = 30 * time.Second
	// settleTime is how long changes are collected before the cloud is asked for more or fewer addresses.
	settleTime = time.Second
)

// follow reconciles at intervals, and when the use of addresses changes, until ctx ends.
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

// reconcile makes the node and the store match the cloud, and requests more or fewer addresses depending on the store.
// After an error everything stays as it was: pods keep their addresses.
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

// adjust asks the cloud for more or fewer addresses. If the cloud refuses, pods still get the existing ones.
func (d *daemon) adjust(ctx context.Context, inv cloud.Inventory) {
	adjusted, err := d.cloud.Adjust(ctx, inv, d.store)
	if adjusted {
		d.tell() // the metadata service will list the changes, and more may be needed
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.adjustWarning = ""
	if err != nil {
		d.log.Error("the number of addresses was not adjusted", "error", err)
		d.adjustWarning = "the number of addresses was not adjusted: " + err.Error()
	}
}

// apply sets up the node for an inventory, and then lets pods have its addresses.
func (d *daemon) apply(inv cloud.Inventory) error {
	unusable := map[string]error{}
	var warnings []string
	managed := inv
	managed.ENIs = slices.DeleteFunc(slices.Clone(inv.ENIs), func(e cloud.ENI) bool { return e.Unmanaged() != "" })
	switch {
	case d.node == nil:
	case d.cfg.IPFamily == ipv6:
		if err := d.node.Guard(); err != nil {
			return fmt.Errorf("node: %w", err)
		}
	default:
		result, err := d.node.Ensure(inv)
		if err != nil {
			return fmt.Errorf("node: %w", err)
		}
		unusable, warnings = result.Unusable, result.Warnings
	}
	var enis []datastore.ENI
	for _, e := range managed.ENIs {
		forPods := d.forPods(e)
		forPods.Closed = unusable[e.ID] != nil
		enis = append(enis, forPods)
	}
	changes := d.store.Sync(enis)
	if len(changes.Added)+len(changes.Removed) > 0 {
		d.log.Info("addresses changed", "added", len(changes.Added), "removed", len(changes.Removed), "enis", len(enis))
	}
	for _, a := range changes.InUse {
		d.log.Warn("the cloud took away an address in use; the pod keeps it until it is deleted",
			"address", a.Address, "eni", a.ENI, "namespace", a.Namespace, "pod", a.Name, "container", a.ContainerID)
	}
	d.report(inv, unusable, warnings)
	return nil
}

// forPods returns the part of an ENI from which pods get addresses. With IPv6 that is only a prefix of the primary ENI.
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

// report publishes the findings, and logs those that are new.
func (d *daemon) report(inv cloud.Inventory, unusable map[string]error, warnings []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	status := monitor.Status{
		InstanceID: inv.InstanceID, VPC: inv.VPC, Warnings: warnings, Reconciled: d.status.Reconciled,
	}
	for id, err := range unusable {
		status.Unusable = append(status.Unusable, monitor.UnusableENI{ID: id, Reason: err.Error()})
	}
	for _, e := range inv.ENIs {
		if reason := e.Unmanaged(); reason != "" {
			status.Unmanaged = append(status.Unmanaged, monitor.UnmanagedENI{
				ID: e.ID, Card: e.Card, Device: e.Device, Reason: reason,
			})
		}
	}
	slices.SortFunc(status.Unusable, func(a, b monitor.UnusableENI) int { return cmp.Compare(a.ID, b.ID) })
	for _, e := range status.Unusable {
		if !slices.Contains(d.status.Unusable, e) {
			d.log.Warn("pods cannot use this ENI", "eni", e.ID, "reason", e.Reason)
		}
	}
	for _, e := range status.Unmanaged {
		if !slices.Contains(d.status.Unmanaged, e) {
			d.log.Info("ENI is left alone", "eni", e.ID, "reason", e.Reason)
		}
	}
	for _, warning := range warnings {
		if !slices.Contains(d.status.Warnings, warning) {
			d.log.Warn(warning)
		}
	}
	d.inv, d.status = inv, status
}
