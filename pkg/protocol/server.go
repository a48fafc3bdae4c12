package protocol

// PathServer takes a ServerRequest by POST and answers with a ServerAnswer.
const PathServer = Prefix + "server"

// ServerRequest is what a server says that wants to join.
type ServerRequest struct {
	// Node is its name, and Version its Kubernetes version, "v1.36.4".
	Node    string `json:"node"`
	Version string `json:"version"`
	// Settings are those that all servers have to have the same.
	Settings map[string]string `json:"settings"`
	// Member and PeerURL are the name and address of its member of etcd.
	Member  string `json:"member"`
	PeerURL string `json:"peerURL"`
}

// ServerAnswer is what it needs.
type ServerAnswer struct {
	// Sealed are the cluster's keys, which the server token opens.
	Sealed []byte `json:"sealed"`
	// InitialCluster are the members of etcd, as etcd wants them.
	InitialCluster string `json:"initialCluster"`
}

// ReasonSettings is 409: settings differ that have to be equal.
const ReasonSettings Reason = "settings"
