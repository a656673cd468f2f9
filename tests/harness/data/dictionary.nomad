# Stand-in until dictionaries/ has it
VENDOR		Nomad		32473
BEGIN-VENDOR	Nomad
ATTRIBUTE	Nomad-Address		1	string
ATTRIBUTE	Nomad-Extension		2	string
ATTRIBUTE	Nomad-Group		3	string
ATTRIBUTE	Nomad-Display-Name	4	string
END-VENDOR	Nomad
