package e2e_test

// badSuccessors returns defects that show when a pod comes after another one, or when other things of a pod have gone.
func badSuccessors() []spoilt {
	return []spoilt{
		{plugin: "route", defect: "names-by-pod", fails: map[string]string{
			"E13": "DEL of a container that was deleted before deletes what the new one of the same pod has: - link podweb-0",
		}, also: []string{"RES-2", "DEL-1"}},
		{plugin: "route", defect: "adds-behind", fails: map[string]string{
			"E17": "ADD succeeds with a rule that a predecessor left (inet 1600), which still decides what happens to packets",
		}, also: []string{"DEL-2"}},
		{plugin: "route", defect: "open-record", fails: map[string]string{
			"E18": "which every user of the node may change: its mode is -rw-rw-rw-",
		}},
		{plugin: "route", defect: "files-by-pod", fails: map[string]string{
			"E19": `with K8S_POD_NAME=../../../../../../../../../../../../../../../../run/cnitest-others/kept, the plugin writes`,
		}, also: []string{"DEL-1"}},
		{plugin: "route", defect: "touches-valid", fails: map[string]string{
			"E19": `with a valid attachment whose container and interface are ../../`,
		}},
		{plugin: "route", defect: "follows-links", fails: map[string]string{
			"E20": `in the place of /var/lib/broken/known-cnitest-first-eth0, the plugin writes "known" into`,
		}},
		{plugin: "route", defect: "tells-record", fails: map[string]string{
			"E20": "the plugin answers DEL with what /run/cnitest-others/kept says",
		}},
		{plugin: "route", defect: "parses-macs", fails: map[string]string{
			"E14": "has another interface first, with the MAC 0 and no sandbox: want success, got exit status 1, code 102: " +
				"prevResult: address 0: invalid MAC address",
		}},
		{plugin: "route", defect: "needs-interface", fails: map[string]string{
			"E15": "DEL after the other interfaces of the pod went: want success, got exit status 1, code 102: eth0",
		}},
		{plugin: "route", defect: "twin-records", fails: map[string]string{
			"DEL-3": "DEL with all files removed that ADD made leaves + link twin",
		}, also: []string{"RES-2"}},
	}
}
