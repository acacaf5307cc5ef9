package e2e_test

// badSentences returns defects that violate sentences of the specification which few plugins are tested for.
func badSentences() []spoilt {
	return []spoilt{
		{plugin: "macvlan", defect: "deletes-without-id", fails: map[string]string{
			"ENV-5": "DEL without CNI_CONTAINERID: want code 4, got exit status 0",
		}},
		{plugin: "route", defect: "does-not-know-verbs", fails: map[string]string{
			"ENV-5": "a call with CNI_COMMAND=FROBNICATE: want code 4, got exit status 0",
		}},
		{plugin: "macvlan", defect: "needs-hex-ids", fails: map[string]string{
			"ENV-6": "ADD of the container 7a_b.c-D: want success, got exit status 1, code 100",
		}},
		{plugin: "host-local", defect: "mends-ids", fails: map[string]string{
			"ENV-6": "ADD of the container 7a-b_c.d: want success, got",
		}},
	}
}
